"""moto's server, with calls of which each sees a queue as the one before has left it.

moto serves each call in a thread of its own and keeps queues without a lock: two polls got one message, one that
waited gave out a message of a group that had been locked meanwhile, and of two calls that deleted at once, one
brought back what the other had taken out. Here calls look and change one after the other.
"""

import functools
import threading
import time

from moto.server import main
from moto.sqs.models import SQSBackend

LOOK_AGAIN = 0.1  # seconds
CHANGES = (
    "change_message_visibility",
    "change_message_visibility_batch",
    "delete_message",
    "delete_message_batch",
    "purge_queue",
    "send_message",
    "send_message_batch",
)

alone = threading.RLock()
look = SQSBackend.receive_message


def one_at_a_time(change):
    @functools.wraps(change)
    def call(*args, **kwargs):
        with alone:
            return change(*args, **kwargs)

    return call


def receive_message(self, queue_name, count, wait_seconds_timeout, *args, **kwargs):
    end = time.monotonic() + (wait_seconds_timeout or 0)
    while True:
        with alone:
            queue = self.get_queue(queue_name)
            # moto notices one by one that they are visible again: those behind would overtake the first
            again = [message for message in queue.pending_messages if message.visible]
            queue.pending_messages.difference_update(again)
            found = look(self, queue_name, count, 0, *args, **kwargs)
        if found or time.monotonic() >= end:
            return found
        time.sleep(LOOK_AGAIN)


for name in CHANGES:
    setattr(SQSBackend, name, one_at_a_time(getattr(SQSBackend, name)))
SQSBackend.receive_message = receive_message
main()
