"""One timed build, and its stages."""

from dataclasses import dataclass, field

from benchmarks.span import now

COMPILE = "dpkg-buildpackage"


@dataclass
class Run:
    """One build, in seconds of span.now()."""

    began: float
    ended: float = 0.0
    compile: tuple[float, float] = (0.0, 0.0)  # When dpkg-buildpackage began and ended.
    reached: list[tuple[float, str]] = field(default_factory=list)  # When each stage was first seen.

    def reach(self, stage: str) -> None:
        """This stage is what is going on now."""
        if stage and (not self.reached or self.reached[-1][1] != stage):
            self.reached.append((now(), stage))

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.ended - self.began

    @property
    def compile_s(self) -> float:
        """The run of dpkg-buildpackage."""
        return self.compile[1] - self.compile[0]

    @property
    def overhead_s(self) -> float:
        """All but the run of dpkg-buildpackage."""
        return self.total_s - self.compile_s

    def stages(self) -> list[tuple[str, float]]:
        """Each stage with its seconds; the one that compiles is in three parts."""
        compiling = [(self.compile[0], f"  {COMPILE}"), (self.compile[1], "  after it")]
        marks = sorted([(self.began, "begin"), *self.reached, *compiling])
        ends = [*(began for began, _ in marks[1:]), self.ended]
        return [(name, end - began) for (began, name), end in zip(marks, ends, strict=True)]
