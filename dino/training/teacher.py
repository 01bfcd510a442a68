"""How the teacher follows the student (paper.md, A.5, B.2; paper Fig. 6).

Every rule moves parameters only; buffers (batch-norm statistics) are the teacher's own. What the student has and the
teacher has not (a predictor) is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dino.config import RunConfig


class Teacher:
    """The momentum teacher, and the base of the other rules.

    `before_step` is called when gradients are ready, `after_step` when the student has moved.

    Example:
        >>> import torch
        >>> from dino.training.teacher import Teacher
        >>> student, teacher = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        >>> rule = Teacher(student, teacher)
        >>> rule.start()  # an exact copy
        >>> _ = torch.nn.init.ones_(student.weight), torch.nn.init.zeros_(teacher.weight)
        >>> rule.after_step(momentum=0.996, ends_epoch=False)
        >>> round(teacher.weight.mean().item(), 5)
        0.004
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.network = teacher
        students = dict(student.named_parameters())
        self._student = [students[name].detach() for name, _ in teacher.named_parameters()]
        self._teacher = [parameter.detach() for parameter in teacher.parameters()]
        for parameter in teacher.parameters():
            parameter.requires_grad_(False)

    def start(self) -> None:
        """Begin as an exact copy of the student."""
        self._copy()

    def before_step(self) -> None:
        """Called before the optimizer moves the student."""

    @torch.no_grad()
    def after_step(self, *, momentum: float, ends_epoch: bool) -> None:
        """theta_t <- m theta_t + (1 - m) theta_s.

        Written theta_t + (1 - m)(theta_s - theta_t): exact at m = 1 and m = 0, one pass over the weights.
        """
        torch._foreach_lerp_(self._teacher, self._student, 1.0 - momentum)

    def state_dict(self) -> dict[str, Tensor]:
        """What the rule keeps beyond the teacher's weights."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""
        if state:
            raise ValueError(f"the checkpoint's teacher keeps {sorted(state)}, which this rule does not know")

    @torch.no_grad()
    def _copy(self) -> None:
        torch._foreach_copy_(self._teacher, self._student)


class StudentCopyTeacher(Teacher):
    """The current student, with stop-gradient: momentum 0."""

    def after_step(self, *, momentum: float, ends_epoch: bool) -> None:
        """Copy the student as it is now."""
        self._copy()


class PreviousIterationTeacher(Teacher):
    """The student one step earlier.

    At step i the teacher has the student's weights before update i - 1 (at the first step: the initial ones). The copy
    is taken just before the student moves, when this step no longer needs the teacher, so no third set of weights is
    kept.
    """

    def before_step(self) -> None:
        """Take the student before it moves; it is one step old at the next forward."""
        self._copy()

    def after_step(self, *, momentum: float, ends_epoch: bool) -> None:
        """Nothing: the copy was taken before the step."""


class PreviousEpochTeacher(Teacher):
    """The student at the end of the previous epoch, frozen during an epoch.

    Assumption (the paper does not say; paper.md, B.2): during the first epoch it has the initial weights.
    """

    def after_step(self, *, momentum: float, ends_epoch: bool) -> None:
        """Copy the student at each epoch's end."""
        if ends_epoch:
            self._copy()


RULES = {
    "momentum": Teacher,
    "student_copy": StudentCopyTeacher,
    "previous_iteration": PreviousIterationTeacher,
    "previous_epoch": PreviousEpochTeacher,
}


def build_teacher(config: RunConfig, student: nn.Module, teacher: nn.Module) -> Teacher:
    """The rule that ``config.teacher`` names; every parameter of the teacher has its namesake in the student."""
    return RULES[config.teacher](student, teacher)
