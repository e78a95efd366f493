"""The master of a build farm: queue, dispatch, collection, command line."""
