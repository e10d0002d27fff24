package agent_test

const childVariable = "LOCKSTEP_TEST_AGENT"

func runChild() int { return 0 }
