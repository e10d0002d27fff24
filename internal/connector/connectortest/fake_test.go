package connectortest_test

import (
	"errors"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Fixture {
		instance := connectortest.NewInstance()
		return connectortest.Fixture{
			Open: func(*testing.T) connector.Connector { return instance.Open("fake") },
			Keys: [3]string{"variable/a", "variable/b", "flag/c"},
			Foreign: func(_ *testing.T, key, text string) {
				instance.Set(key, []byte(`"`+text+`"`))
			},
			FailHalfway: func(_ *testing.T, c connector.Connector) {
				c.(*connectortest.Fake).Fault = func(op string) error {
					if op != "apply:half" {
						return nil
					}
					c.(*connectortest.Fake).Fault = nil
					return connector.Transient(connector.ReasonWriteFailed, "told to")
				}
			},
		}
	})
}

func TestFakeFailsWhereItIsToldTo(t *testing.T) {
	told := errors.New("told to")
	for _, op := range []string{"observe", "plan", "prepare", "apply", "apply:half", "apply:late", "undo"} {
		f := connectortest.NewFake("fake")
		f.Fault = func(at string) error {
			if at == op {
				return told
			}
			return nil
		}
		want := connector.Values{"flag/a": []byte("1"), "flag/b": []byte("2")}
		_, observeErr := f.Observe(t.Context(), want)
		plan, planErr := f.Plan(t.Context(), want)
		prepareErr := f.Prepare(t.Context(), &plan, t.TempDir())
		applyErr := f.Apply(t.Context(), plan)
		done := len(f.Instance().Values())
		undoErr := f.Undo(t.Context(), plan.Units)
		if err := errors.Join(observeErr, planErr, prepareErr, applyErr, undoErr); !errors.Is(err, told) {
			t.Errorf("%s: %v", op, err)
		}
		if half := map[string]int{"apply": 0, "apply:half": 1, "apply:late": 2}; applyErr != nil && done != half[op] {
			t.Errorf("%s: %d keys were set", op, done)
		}
	}
}
