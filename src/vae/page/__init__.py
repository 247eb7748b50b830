"""Pages of HTML that stand by themselves: of a run, of a sweep, of an evaluation."""
