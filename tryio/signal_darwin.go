package tryio

// noSignal would keep a write from being a signal; here no flag does.
const noSignal = 0
