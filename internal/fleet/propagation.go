package fleet

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// Propagation is how long what was released in a window of time took, and what has not arrived.
type Propagation struct {
	Since, Until time.Time
	All          Quantiles
	Buckets      []LagBucket // over time, oldest first
	Histogram    []LagBin
	Environments []EnvironmentLag // slowest first
	Phases       []PhaseLag       // in their order
	Slowest      []LagPoint       // applied ones, slowest first
	Unapplied    []LagPoint       // oldest first, whenever they were released
}

// Quantiles of a number of lags, in seconds. A quantile is the smallest lag that so many in a hundred do not exceed (nearest rank).
type Quantiles struct {
	Count              int
	P50, P95, P99, Max float64
}

// A LagBucket are the lags of what was released from a time on, up to the next bucket.
type LagBucket struct {
	From time.Time
	Quantiles
}

// A LagBin is how many lags are at most UpTo, and more than the bin before; the last is without bound.
type LagBin struct {
	UpTo  float64
	Count int
}

// An EnvironmentLag are the lags of one environment.
type EnvironmentLag struct {
	Name string
	Quantiles
	Series []LagPoint // newest ones, oldest first
}

// A PhaseLag are the lengths of one phase of the slowest agents' ways.
type PhaseLag struct {
	Phase Phase
	Quantiles
	Over []Quantiles // time: by the propagation's buckets
}

const (
	lagBuckets  = 48 // in which a window is divided
	mostPoints  = 20 // of a list
	mostLags    = 2000
	seriesShown = 24
)

// bins bound the bins of the histogram, in seconds.
var bins = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, math.Inf(1)}

// PropagationOf is that of the environments that are wanted, in a window of time up to now. At most the newest 2,000 releases of an
// environment are looked at.
func PropagationOf(s *ledger.State, r Reports, window time.Duration, wanted func(*ledger.Environment) bool, asOf time.Time) Propagation {
	out := Propagation{Since: asOf.Add(-window), Until: asOf}
	var all []float64
	buckets := make([][]float64, lagBuckets)
	bucket := func(p LagPoint) int {
		at := int(float64(p.Released.Sub(out.Since)) / float64(window) * lagBuckets)
		return min(max(at, 0), lagBuckets-1)
	}
	phases := map[Phase][][]float64{} // by bucket
	phase := func(p LagPoint, of Phase, long time.Duration) {
		if phases[of] == nil {
			phases[of] = make([][]float64, lagBuckets)
		}
		at := bucket(p)
		phases[of][at] = append(phases[of][at], long.Seconds())
	}
	for _, e := range s.EnvironmentList() {
		if e.Retired || !wanted(e) {
			continue
		}
		points := lagSince(e, r, out.Since, mostLags, phase, asOf)
		var own []float64
		for _, p := range points {
			if p.Open {
				out.Unapplied = append(out.Unapplied, p)
				continue
			}
			own = append(own, p.Seconds)
			out.slow(p)
			at := bucket(p)
			buckets[at] = append(buckets[at], p.Seconds)
		}
		if len(points) > 0 {
			out.Environments = append(out.Environments, EnvironmentLag{e.Name, quantiles(own), points[max(0, len(points)-seriesShown):]})
		}
		all = append(all, own...)
	}
	out.All = quantiles(all)
	for i, of := range buckets {
		out.Buckets = append(out.Buckets, LagBucket{out.Since.Add(window / lagBuckets * time.Duration(i)), quantiles(of)})
	}
	out.Histogram = histogram(all)
	for _, phase := range Phases {
		if of := phases[phase]; of != nil {
			lag := PhaseLag{Phase: phase, Quantiles: quantiles(slices.Concat(of...))}
			for _, bucket := range of {
				lag.Over = append(lag.Over, quantiles(bucket))
			}
			out.Phases = append(out.Phases, lag)
		}
	}
	slices.SortStableFunc(out.Environments, func(a, b EnvironmentLag) int { return cmp.Or(cmp.Compare(b.P99, a.P99), cmp.Compare(a.Name, b.Name)) })
	slices.SortStableFunc(out.Unapplied, func(a, b LagPoint) int { return a.Released.Compare(b.Released) })
	return out
}

// slow lists a release among the slowest, as far as it is one of them.
func (p *Propagation) slow(of LagPoint) {
	at, _ := slices.BinarySearchFunc(p.Slowest, of, func(known, of LagPoint) int {
		if known.Seconds >= of.Seconds {
			return -1
		}
		return 1
	})
	if at < mostPoints {
		p.Slowest = slices.Insert(p.Slowest, at, of)
		p.Slowest = p.Slowest[:min(len(p.Slowest), mostPoints)]
	}
}

func quantiles(of []float64) Quantiles {
	if len(of) == 0 {
		return Quantiles{}
	}
	slices.Sort(of)
	at := func(q float64) float64 { return of[max(0, int(math.Ceil(q*float64(len(of))))-1)] }
	return Quantiles{len(of), at(0.5), at(0.95), at(0.99), of[len(of)-1]}
}

// histogram counts lags by bins, without empty bins at the ends.
func histogram(of []float64) []LagBin {
	out := make([]LagBin, len(bins))
	first, last := len(bins), -1
	for i, bound := range bins {
		out[i].UpTo = bound
	}
	for _, seconds := range of {
		i, _ := slices.BinarySearch(bins, seconds)
		out[i].Count++
		first, last = min(first, i), max(last, i)
	}
	if last < 0 {
		return nil
	}
	return out[first : last+1]
}
