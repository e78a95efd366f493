"""A farm in simulated time: the real core with simulated builders, losses, liars, and masters that die at any step.

`python -m buildmaster.tests.simulation --seed 7 --masters 3 --builders 50 --builds 500 --hours 8`: scanner, fleet,
leases, dispatch, gathering, recovery, examiner, store and a real SQLite; what is simulated is the clock, the network,
the machines behind it, what archives have, and what PostgreSQL tells of commits. Several masters share the builders:
they die, stand still and go on as if nothing had been, lose their database, have clocks that are wrong. People cancel,
retry, supersede, give. Nothing reads the real time and there are no threads, so a seed gives the same run each time,
which the digest at the end shows. After each commit the invariants are checked (invariants.py), and that no master does
anything with a builder that is another's. Not simulated is what only PostgreSQL does: transactions at the same time.
"""
