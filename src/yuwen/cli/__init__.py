"""The command line: one thin file per verb; see `yuwen.cli.main` for the convention they share."""
