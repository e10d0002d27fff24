package file

import (
	"encoding/json"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
)

// BenchmarkChangeOne is what an agent does to its instance for a release: plan ten resources, of which one changes, apply, read back.
func BenchmarkChangeOne(b *testing.B) {
	variables := []connector.Glob{"variable/*"}
	c, err := Open("app", Config{Root: ".", Files: []File{{Path: "config.json", Resources: variables}}}, b.TempDir(), "dev/a1")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	want := connector.Values{}
	for i := range 10 {
		want[fmt.Sprintf("variable/v%d", i)] = json.RawMessage(`"a value that stays as it is"`)
	}
	b.ReportAllocs()
	began, n := processorTime(b), 0
	for b.Loop() {
		n++
		want["variable/v0"] = json.RawMessage(strconv.Itoa(n))
		plan, err := c.Plan(b.Context(), want)
		if err == nil {
			err = c.Apply(b.Context(), plan)
		}
		if err == nil {
			_, err = c.Observe(b.Context(), want)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime(b)-began)/float64(n), "cpu-ns/op")
}

// processorTime is the process's: it does not notice who else is at work on the machine.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
