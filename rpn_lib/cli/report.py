"""What `rpn train` says and notes while a run goes on."""

from collections.abc import Mapping
from pathlib import Path

from rpn_lib.cli.console import log
from rpn_lib.cli.images import Images
from rpn_lib.cli.run_folder import Metrics
from rpn_lib.cli.settings import RunSettings
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training import processes
from rpn_lib.training.measure import Measured, measure


class Report:
    """What is said and noted while a run goes on."""

    def __init__(
        self,
        rpn: RegionProposalNetwork,
        images: Images,
        settings: RunSettings,
        out: Path,
        start: int,
    ) -> None:
        self.rpn, self.images, self.training = rpn, images, settings.training
        self.per_epoch = images.length // self.training.batch_size
        self.metrics = Metrics(out, start) if processes.rank() == 0 else None
        self.seconds = self.waiting = 0.0
        self.steps = 0

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *error: object) -> None:
        if self.metrics is not None:
            self.metrics.close()

    def after_step(self, row: Mapping[str, float]) -> None:
        """Note what `train` says of a step."""
        self.seconds += row["seconds"]
        self.waiting += row["waiting"]
        self.steps += 1
        if self.metrics is not None:
            self.metrics.add(dict(row))

    def after_epoch(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Say how an epoch went, and look at the validation images now and then."""
        text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        done, epochs = epoch + 1, self.training.epochs
        every = self.training.eval_every or max(1, epochs // 4)
        if done % every == 0 and done < epochs:
            result = self.measure(done)
            values = (f"{name} {value:.4f}" for name, value in result.losses.items())
            average = result.evaluation.recall(100).average
            text += f"; validation: {', '.join(values)}, AR@100 {average:.3f}"
        log.info(f"epoch {done} of {epochs}: {text}")

    def measure(self, done: int) -> Measured:
        """Look at the validation images after so many epochs."""
        result = measure(self.rpn, self.images.val_set, workers=self.training.workers)
        if self.metrics is not None:
            at = result.evaluation.recall(100)
            losses = {f"val_{name}": value for name, value in result.losses.items()}
            place = {"step": done * self.per_epoch, "epoch": done - 1}
            found = {"recall": at.at(0.5), "AR@100": at.average}
            self.metrics.add({**place, **losses, **found})
        return result

    def timing(self) -> dict[str, float]:
        """Seconds of a step, and the shares of waiting and of communication."""
        if not self.steps:
            return {}
        values = {
            "seconds a step": self.seconds / self.steps,
            "waiting for data": self.waiting / self.seconds,
            "processes": float(processes.world_size()),
        }
        if processes.world_size() > 1:
            values["communication"] = processes.SPENT["seconds"] / self.seconds
        return {name: round(value, 5) for name, value in values.items()}

    def time_line(self) -> str:
        """A sentence on where the time went."""
        values = self.timing()
        text = (
            f"{self.steps} steps in {self.seconds:.1f} s, "
            f"{values['seconds a step']:.3f} s each; waiting for data "
            f"{values['waiting for data']:.1%}"
        )
        if "communication" in values:
            each = values["communication"] * values["seconds a step"]
            text += (
                f"; communication of {processes.world_size()} processes {each:.4f} s a "
                f"step, {values['communication']:.1%}, partly beside the computation"
            )
        return text
