package registry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

func TestWhatIsSuspiciousIsSaidAndWhatIsWrongIsSaidOnce(t *testing.T) {
	today := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s := read(t, manifest("Environment", "dev", "facts: {}"), manifest("Environment", "test", "facts: {}"),
		manifest("Variable", "a", "lifecycle: deprecated\nexpires: 2026-11-20\nreviewBy: 2026-11-21\ndefault: 1"), manifest("Variable", "b", "overrides: {tset: 1, 't*': 1}"), manifest("Variable", "c", "activation: {environments: [tst, 't*']}\ndefault: 1"))
	findings, err := registry.Check(s, today)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range findings {
		got = append(got, f.String())
	}
	want := "f2.yaml:5: variable/a is deprecated\nf2.yaml:6: variable/a expired on 2026-11-20\n" +
		`f3.yaml:5: variable/b has an override for "tset", which is no environment that is declared here; did you mean test?` + "\n" +
		`f4.yaml:5: variable/c is active in "tst", which is no environment that is declared here; did you mean test?`
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	_, err = registry.Check(read(t, manifest("Environment", "dev", "facts: {}"), manifest("Environment", "test", "facts: {}"), manifest("Variable", "a", "type: string\ndefault: 1")), today)
	if err == nil || strings.Contains(err.Error(), "more") {
		t.Errorf("%v", err)
	}
	if findings, err := registry.Check(read(t, manifest("Variable", "a", "default: 1")), today); err != nil || len(findings) != 1 || !strings.Contains(findings[0].Message, "no environment is declared") {
		t.Errorf("%v (%v)", findings, err)
	}
}
