"""The one place that knows which objectives there are."""

from __future__ import annotations

from dino.config import RunConfig
from dino.errors import UserError
from dino.objectives.dino import DinoObjective


def build_objective(config: RunConfig) -> DinoObjective:
    """The objective that ``config.objective`` names.

    An objective is an ``nn.Module`` called as ``(student_logits, teacher_logits, epoch, with_stats=False)`` that
    returns ``(loss, stats)``, and whose ``step()`` is called once after each optimizer step. What must survive a
    restart is in its buffers.

    Raises:
        UserError: There is no objective of that name.
    """
    if config.objective == "dino":
        return DinoObjective(
            out_dim=config.out_dim,
            num_views=2 + config.num_local_crops,
            student_temp=config.student_temp,
            teacher_temp=config.teacher_temp,
            warmup_teacher_temp=config.warmup_teacher_temp,
            warmup_teacher_temp_epochs=config.warmup_teacher_temp_epochs,
            center_momentum=config.center_momentum,
        )
    raise UserError(f"no objective '{config.objective}' (known: dino)")
