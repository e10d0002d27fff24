package policy

import (
	"fmt"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// BenchmarkJudge judges 10,000 new resources in each of 100 environments of three stages by three policies.
func BenchmarkJudge(b *testing.B) {
	s := read(b,
		policyNamed("value", "validations: [{expression: object.value != 'debug'}]"),
		policyNamed("stage", "validations: [{expression: \"environment.labels.stage != 'prod' || object.value != 'trace'\"}]"),
		policyNamed("ticket", "matchResources: {labels: {stage: prod}}\nrequireTicket: {pattern: x}"))
	value := &registry.Value{JSON: []byte(`"info"`)}
	operations := make([]Operation, 10_000)
	for i := range operations {
		operations[i] = set(fmt.Sprintf("variable/v%05d", i), "", `"info"`)
		operations[i].Value = value
	}
	r := Request{Change: &Change{Ticket: "x"}}
	for i := range 100 {
		r.Environments = append(r.Environments, Environment{Name: fmt.Sprintf("e%03d", i), Labels: map[string]string{"stage": []string{"dev", "staging", "prod"}[i%3]}, After: s,
			Operations: func(yield func(Operation) bool) {
				for _, o := range operations {
					if !yield(o) {
						return
					}
				}
			}})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := new(Library).Judge(r); err != nil {
			b.Fatal(err)
		}
	}
}
