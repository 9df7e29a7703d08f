"""moto's server, with polls of which each sees a queue as the one before has left it.

moto looks whether a message is visible and then takes it, while other threads do the same: two polls got one
message, and one that waited gave out a message of a group that had been locked meanwhile. Here polls look one
after the other, and each look is a new one.
"""

import threading
import time

from moto.server import main
from moto.sqs.models import SQSBackend

LOOK_AGAIN = 0.05  # seconds

look = SQSBackend.receive_message
looking = threading.Lock()


def receive_message(self, queue_name, count, wait_seconds_timeout, *args, **kwargs):
    end = time.monotonic() + (wait_seconds_timeout or 0)
    while True:
        with looking:
            queue = self.get_queue(queue_name)
            # moto notices one by one that they are visible again: those behind would overtake the first
            again = [message for message in queue.pending_messages if message.visible]
            queue.pending_messages.difference_update(again)
            found = look(self, queue_name, count, 0, *args, **kwargs)
        if found or time.monotonic() >= end:
            return found
        time.sleep(LOOK_AGAIN)


SQSBackend.receive_message = receive_message
main()
