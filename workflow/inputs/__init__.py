"""What a person writes, read and checked: studies, scales, evaluations, the settings of a call."""
