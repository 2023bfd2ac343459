"""The letters of the stock scripts: one letter, one meaning.

What Redis keeps never changes: gateways of other versions read it. An answer that is the state of a
hold is that state's letter; all other answers pass between a script and the Python of the same
version only, as scripts are called by their digest. Names of an entry's fields (`h`, `s`, `b`, `m`)
are no letters in this sense.
"""

from enum import StrEnum, unique


@unique
class Kept(StrEnum):
    """In Redis, also for gateways of other versions."""

    HELD = "H"  # state: units are set aside; as an entry: a batch of holds
    PAYING = "P"  # state
    SOLD = "S"  # state, and movement of a sale without a hold
    RELEASED = "R"  # state and movement
    EXPIRED = "E"  # state and movement
    CANCELLED = "X"  # state and movement
    WAITING = "W"  # state and movement: a place in the line
    DROPPED = "D"  # state of the mark that older records were dropped
    GRANTED = "G"  # movement: from the line to a hold
    BEGAN = "B"  # movement: held to paying
    REVERTED = "V"  # movement: paying to held
    CONFIRMED = "C"  # movement: paying to sold
    RETAKEN = "T"  # movement: ended to sold
    LEFT_LINE = "Q"  # movement
    CLOSING = "Z"  # movement of an offer
    CLOSED = "Y"  # movement of an offer
    MOVED = "M"  # entry: movements of all kinds but holds
    ALARM = "h"  # member of `deadlines`: one hold
    BATCH_ALARM = "b"  # member of `deadlines`: all holds of an entry


@unique
class StockAnswer(StrEnum):
    """What a script says beside the states in `Kept`."""

    REBUILDING = "a"  # nothing was decided: the show's stock has to be made anew
    BEHIND = "j"  # nothing was decided: the ledger lacks too many entries
    LIVE = "t"  # the key is taken by a hold that lives
    ENDED = "e"  # the key's hold expired
    GIVEN_BACK = "r"  # the key's hold was released, or its sale cancelled
    BOUGHT = "s"  # the key's hold was sold
    IN_LINE = "w"  # the key has a place in the line
    DIFFERENT = "d"  # the key was used for another request, or the payment is refused
    UNKNOWN = "u"  # no such offer, hold or place here
    NOT_OPEN = "n"
    PAUSED = "i"
    CLOSED = "c"
    FORGOTTEN = "f"  # closed, and the buyer's older records were dropped
    LIMIT = "l"  # of this buyer
    FULL = "k"  # too many purchases of this buyer are open
    GUESTS = "g"  # guests have their share
    SOLD_OUT = "o"
    MODE = "m"  # the offer is sold in the other mode
    MAY_WAIT = "y"
    UNSETTLED = "q"  # entries wait for the ledger
