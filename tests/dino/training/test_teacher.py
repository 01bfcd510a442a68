from __future__ import annotations

import pytest
import torch

from dino.training.teacher import build_teacher
from tests.dino.training.tiny import STEPS_PER_EPOCH, run_steps, tiny_config, tiny_step, weights

Weights = dict[str, torch.Tensor]


def same(a: Weights, b: Weights) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def teacher_and_students(rule: str, steps: int) -> tuple[list[Weights], list[Weights]]:
    """Weights of teacher and student at the start of each step, and after the last."""
    step = tiny_step(tiny_config(teacher=rule, freeze_last_layer_epochs=0))
    teachers, students = [weights(step.teacher)], [weights(step.student)]
    for index in range(steps):
        run_steps(step, 1, first=index)
        teachers.append(weights(step.teacher))
        students.append(weights(step.student))
    return teachers, students


def test_momentum_teacher_starts_as_a_copy_and_follows_the_cosine_schedule() -> None:
    step = tiny_step(tiny_config(teacher_momentum=0.9))
    assert same(weights(step.teacher), weights(step.student))
    before = weights(step.teacher)
    run_steps(step, 2)
    assert step.schedules.teacher_momentum[0] == pytest.approx(0.9)
    other = tiny_step(tiny_config(teacher_momentum=0.9))
    expected = before
    for index in range(2):
        run_steps(other, 1, first=index)
        m = step.schedules.teacher_momentum[index]
        expected = {name: m * expected[name] + (1 - m) * value for name, value in weights(other.student).items()}
    for name, value in weights(step.teacher).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


def test_momentum_one_keeps_the_teacher_and_zero_copies_the_student_exactly() -> None:
    for momentum in (0.0, 1.0):
        step = tiny_step(tiny_config())
        run_steps(step, 2)
        before = weights(step.teacher)
        step.teacher_rule.after_step(momentum=momentum, ends_epoch=False)
        assert same(weights(step.teacher), before if momentum == 1.0 else weights(step.student))


def test_student_copy_has_the_current_weights_at_every_step() -> None:
    teachers, students = teacher_and_students("student_copy", 3)
    assert all(same(teacher, student) for teacher, student in zip(teachers, students, strict=True))
    assert not same(students[1], students[2])


def test_previous_iteration_is_one_step_behind() -> None:
    teachers, students = teacher_and_students("previous_iteration", 4)
    assert same(teachers[0], students[0])
    assert all(same(teachers[index], students[index - 1]) for index in range(1, 5))
    assert not same(students[2], students[3])


def test_previous_epoch_is_frozen_within_an_epoch_and_starts_from_the_initial_weights() -> None:
    teachers, students = teacher_and_students("previous_epoch", 2 * STEPS_PER_EPOCH + 1)
    assert all(same(teachers[index], students[0]) for index in range(STEPS_PER_EPOCH))
    end = STEPS_PER_EPOCH
    assert all(same(teachers[index], students[end]) for index in range(end, 2 * end))
    assert same(teachers[2 * end], students[2 * end])


def test_buffers_stay_the_teachers_own() -> None:
    student, teacher = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    rule = build_teacher(tiny_config(teacher="student_copy"), student, teacher)
    student.running_mean.fill_(7.0)  # type: ignore[union-attr]
    student.weight.data.fill_(2.0)
    rule.after_step(momentum=0.0, ends_epoch=True)
    assert teacher.weight.tolist() == [2.0] * 3
    assert teacher.running_mean.tolist() == [0.0] * 3  # type: ignore[union-attr]


@pytest.mark.parametrize("rule", ["momentum", "student_copy", "previous_iteration", "previous_epoch"])
def test_every_rule_leaves_a_predictor_to_the_student(rule: str) -> None:
    step = tiny_step(tiny_config(teacher=rule, predictor=True, predictor_hidden_dim=20))
    run_steps(step, STEPS_PER_EPOCH + 1)
    student, teacher = weights(step.student), weights(step.teacher)
    assert {name for name in student if name not in teacher} == {
        f"head.predictor.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }
    if rule == "student_copy":
        assert same(teacher, student)


def test_state_of_another_rule_is_refused() -> None:
    step = tiny_step(tiny_config())
    assert step.teacher_rule.state_dict() == {}
    with pytest.raises(ValueError, match="queue"):
        step.teacher_rule.load_state_dict({"queue": torch.zeros(1)})
