"""What can be wrong with a graph; every message is one line that says what to do."""


class GraphError(ValueError):
    """A graph cannot be built or used as asked."""


class GraphAssertionError(GraphError, AssertionError):
    """A graph is used in a way that it is not made for; an AssertionError as in hippynn."""


class NodeNotFound(GraphError, LookupError):
    """A graph has no node of the kind that is needed."""


class NodeAmbiguity(GraphError, LookupError):
    """A graph has several nodes of a kind of which one is needed."""
