package telemetry_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

func TestTraceContextsAreW3Cs(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for parent, want := range map[string]string{
		"00-" + trace + "-00f067aa0ba902b7-01":                    trace,
		"cc-" + trace + "-00f067aa0ba902b7-01-more":               trace, // a later version
		"00-" + trace + "-00f067aa0ba902b7-01-more":               "",
		"ff-" + trace + "-00f067aa0ba902b7-01":                    "",
		"00-" + trace + "-0000000000000000-01":                    "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": "",
		"": "", "hello": "", trace: "",
	} {
		if got := telemetry.TraceID(parent); got != want {
			t.Errorf("%q is of trace %q, want %q", parent, got, want)
		}
	}
	a, err := telemetry.NewTraceParent(rand.Reader)
	if err != nil || telemetry.TraceID(a) == "" {
		t.Errorf("%q: %v", a, err)
	}
	if zeros, err := telemetry.NewTraceParent(bytes.NewReader(make([]byte, 24))); err != nil || telemetry.TraceID(zeros) == "" {
		t.Errorf("%q: %v", zeros, err)
	}
	if _, err := telemetry.NewTraceParent(bytes.NewReader(nil)); err == nil {
		t.Error("a trace without chance")
	}
}
