"""`python -m services.router`"""

from libs import lifecycle
from services.router.app import main

if __name__ == "__main__":
    lifecycle.run(main)
