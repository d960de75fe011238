"""Why slots are gaps in a recording that were none, or may have been none, in the run."""

NOT_RECORDED = "not recorded"
"""Of slots that the recording says nothing of."""

UNHEARD = "unheard"
"""Of slots that passed a tap before or between what was heard."""

UNSEEN = (NOT_RECORDED, UNHEARD)
"""What the port said there is not known."""
