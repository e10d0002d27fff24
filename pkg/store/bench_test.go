package store_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// BenchmarkAdvance commits releases, all at once as an agent that catches up does, or one by one.
func BenchmarkAdvance(b *testing.B) {
	const releases = 2000
	p := foldtest.New(b)
	env := fold.New(foldtest.Ledger, "dev")
	published := p.Trust("dev")
	for i := range releases - 1 {
		published = append(published, p.Change(foldtest.Set("dev", "variable/limit", strconv.Itoa(i))).Releases...)
	}
	var steps []*fold.Step
	for _, r := range published {
		step, err := env.Accept(r.Payload)
		must(b, err)
		steps = append(steps, step)
	}
	for _, together := range []int{1, releases} {
		b.Run(strconv.Itoa(together), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s, err := store.Open(filepath.Join(b.TempDir(), strconv.Itoa(i)), identity)
				must(b, err)
				for from := 0; from < releases; from += together {
					must(b, s.Update(func(tx *store.Tx) error {
						_, err := tx.Advance(env, steps[from:from+together], store.Checkpoint{At: time.Unix(1, 0)})
						return err
					}))
				}
				must(b, s.Close())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*releases), "ns/release")
		})
	}
}
