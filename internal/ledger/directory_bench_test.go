package ledger_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/internal/secretscan"
)

// fleetDirectory is a directory of so many resources and environments: a tenth of the resources has an override for production, a
// hundredth one for a single environment, and a base and a production template give values to some.
func fleetDirectory(resources, environments int, level string) *ledger.Directory {
	var files []registry.File
	add := func(name, format string, args ...any) {
		files = append(files, registry.File{Name: name + ".yaml", Text: "apiVersion: lockstep/v1\n" + fmt.Sprintf(format, args...)})
	}
	for e := range environments {
		add(fmt.Sprintf("environments/e%03d", e), "kind: Environment\nmetadata: {name: %s, labels: {stage: %s}}\nspec: {template: production}\n", environmentName(e), stage(e))
	}
	add("templates/base", "kind: Template\nmetadata: {name: base}\nspec:\n  version: 1.0.0\n  values: {variable/v00001: %s}\n", level)
	add("templates/production", "kind: Template\nmetadata: {name: production}\nspec:\n  version: 1.0.0\n  extends: base\n  values: {variable/v00002: x}\n")
	for i := range resources {
		overrides := ""
		if i%10 == 3 {
			overrides = "\n  overrides:\n    prod-*: {limit: 10}"
		}
		if i%100 == 7 {
			overrides = fmt.Sprintf("\n  overrides:\n    %s: {limit: 20}", environmentName(i%environments))
		}
		value := fmt.Sprintf("\n  default:\n    limit: %d\n    mode: plain", i)
		if i == 1 || i == 2 {
			value = ""
		}
		add(fmt.Sprintf("resources/v%05d", i), "kind: Variable\nmetadata:\n  name: v%05d\n  owner: team-%d\n  description: What it is for\nspec:\n  version: 1.0.0\n  severity: low%s%s\n", i, i%20, value, overrides)
	}
	return &ledger.Directory{Files: files}
}

func stage(e int) string {
	if e%2 == 0 {
		return "prod"
	}
	return "dev"
}

func environmentName(e int) string { return fmt.Sprintf("%s-%03d", stage(e), e) }

// directoryFleet is a ledger in which the directory is released to all environments, in parts: one release holds so much.
func directoryFleet(b *testing.B, resources, environments int) *book {
	book := newBook(b)
	book.unwatched = true
	for e := range environments {
		book.must("op", ledger.AddEnvironment{Name: environmentName(e), Labels: map[string]string{"stage": stage(e)}, Approvals: 1})
	}
	const step = 2000
	all := fleetDirectory(resources, environments, "info")
	for n := min(step, resources); ; n = min(n+step, resources) {
		part := &ledger.Directory{Files: all.Files[:environments+2+n]}
		book.release(ledger.Propose{Reason: "grow", Directory: part})
		if n == resources {
			return book
		}
	}
}

func BenchmarkDirectory(b *testing.B) {
	for _, resources := range []int{1_000, 10_000} {
		const environments = 100
		size := fmt.Sprintf("%dx%d", resources, environments)
		b.Run(size+"/check", func(b *testing.B) {
			files := fleetDirectory(resources, environments, "info").Files
			defer measured(b)()
			for b.Loop() {
				s, err := registry.Read(files)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := registry.Check(s, epoch); err != nil {
					b.Fatal(err)
				}
				if _, err := policy.Check(s); err != nil || len(secretscan.Sources(s)) > 0 {
					b.Fatal(err)
				}
			}
		})
		book := directoryFleet(b, resources, environments)
		b.Run(size+"/diff", func(b *testing.B) {
			files := fleetDirectory(resources, environments, "debug").Files
			defer measured(b)()
			for b.Loop() {
				c, err := book.state.Compile(&ledger.Directory{Files: files}, "c")
				if err != nil || len(c.Environments) != environments || len(c.Environments[0].Operations) != 1 {
					b.Fatal(len(c.Environments), err)
				}
				if refused, _ := book.state.Objections(c, "c", nil, epoch); len(refused) > 0 {
					b.Fatal(refused)
				}
			}
		})
		b.Run(size+"/propose", func(b *testing.B) {
			files := fleetDirectory(resources, environments, "debug").Files
			defer measured(b)()
			for b.Loop() {
				book.must("anna", ledger.Propose{Reason: "louder", Directory: &ledger.Directory{Files: files}})
			}
		})
		from := environmentName(1)
		book.release(ledger.Propose{Reason: "louder", Directory: &ledger.Directory{Files: fleetDirectory(resources, environments, "debug").Files, Environments: []string{from}}})
		b.Run(size+"/promote", func(b *testing.B) {
			defer measured(b)()
			for b.Loop() {
				book.must("anna", promotion(from, "*"))
			}
		})
		level := "debug"
		b.Run(size+"/approve", func(b *testing.B) { // it is run several times, and each of them approves something new
			b.StopTimer()
			for range b.N {
				level += "x"
				change := book.must("anna", ledger.Propose{Reason: "louder", Directory: fleetDirectory(resources, environments, level)}).Change
				b.StartTimer()
				book.approve("ben", change)
				b.StopTimer()
			}
		})
	}
}

// measured reports the processor's time, which does not depend on what else the machine does, and what stays on the heap.
func measured(b *testing.B) func() {
	before := processorTime(b)
	return func() {
		b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N), "cpu-s/op")
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB-kept")
	}
}
