"""`python -m services.gateway`"""

from libs import lifecycle
from services.gateway.app import main

if __name__ == "__main__":
    lifecycle.run(main)
