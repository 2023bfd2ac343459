"""What each command of the CLI does: engines first, then processes or one call, then the end.

Always: engines that a command started end with it; engines that another command runs are used and
left alone. A module for each kind of command: `live.run.cli` imports the one that is asked for and
no other, since every process of a service begins with this.
"""
