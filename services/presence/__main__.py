"""`python -m services.presence`"""

from libs import lifecycle
from services.presence.app import main

if __name__ == "__main__":
    lifecycle.run(main)
