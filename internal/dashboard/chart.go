package dashboard

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

// Charts are drawn on a logarithmic scale from ten milliseconds to a day: lag is of interest at both ends.
const (
	leastLag = 0.01
	mostLag  = 86400
)

// height is where on the scale a lag stands, from 0 to 1.
func height(seconds float64) float64 {
	return math.Log(min(max(seconds, leastLag), mostLag)/leastLag) / math.Log(mostLag/leastLag)
}

const sparkWidth, sparkHeight = 96, 20

// spark is the lag of an environment's newest releases as a small line. The words beside it say the same.
func spark(points []fleet.LagPoint) template.HTML {
	if len(points) == 0 {
		return ""
	}
	var line strings.Builder
	var x, y float64
	slowest := points[0]
	for i, p := range points {
		x = 2 + float64(i+sparkPoints-len(points))*(sparkWidth-4)/(sparkPoints-1)
		y = 2 + (sparkHeight-4)*(1-height(p.Seconds))
		fmt.Fprintf(&line, "%c%.0f %.1f", "ML"[min(i, 1)], x, y)
		if p.Seconds > slowest.Seconds {
			slowest = p
		}
	}
	newest := points[len(points)-1]
	class, words := "spark", fmt.Sprintf("the last %s: the newest took %s", count(len(points), "release", "releases"), fleet.Span(newest.Seconds))
	if newest.Open {
		class, words = "spark open", fmt.Sprintf("the last %s: the newest has been waiting for %s", count(len(points), "release", "releases"), fleet.Span(newest.Seconds))
	}
	words += ", the slowest " + fleet.Span(slowest.Seconds)
	return template.HTML(fmt.Sprintf(`<svg class="%s" role="img" aria-label="%s" width="%d" height="%d" viewBox="0 0 %d %d"><path d="%s"/><circle cx="%.0f" cy="%.1f" r="2"/></svg>`,
		class, words, sparkWidth, sparkHeight, sparkWidth, sparkHeight, line.String(), x, y)) // of numbers
}

// shownPhases are those of which a way is made up, in their order.
var shownPhases = []fleet.Phase{fleet.PhaseDeliver, fleet.PhaseVerify, fleet.PhaseApply, fleet.PhaseCommit, fleet.PhaseAck}

const waterfallWidth, waterfallHeight = 320, 16

// waterfall is the way of a release to an agent as bars, one for each phase, on a scale of seconds; what is on its way has none yet.
func waterfall(phases map[fleet.Phase]time.Duration, took *fleet.Duration, scale float64) template.HTML {
	if took == nil || scale <= 0 {
		return ""
	}
	var bars, words strings.Builder
	x := 0.0
	bar := func(class, name string, seconds float64) {
		width := seconds / scale * waterfallWidth
		fmt.Fprintf(&bars, `<rect class="p-%s" x="%.1f" y="2" width="%.1f" height="%d"><title>%s %s</title></rect>`, class, x, max(width, 0.8), waterfallHeight-4, name, fleet.Span(seconds))
		fmt.Fprintf(&words, ", %s %s", name, fleet.Span(seconds))
		x += width
	}
	for _, phase := range shownPhases {
		if long, known := phases[phase]; known {
			bar(string(phase), phaseWords[phase], long.Seconds())
		}
	}
	if x == 0 {
		bar("deliver", "all of it", took.Seconds)
	}
	return template.HTML(fmt.Sprintf(`<svg class="waterfall" role="img" aria-label="%s" viewBox="0 0 %d %d" width="%d" height="%d">%s</svg>`,
		strings.TrimPrefix(words.String(), ", "), waterfallWidth, waterfallHeight, waterfallWidth, waterfallHeight, bars.String())) // of numbers and our words
}

// phaseWords are the phases for people.
var phaseWords = map[fleet.Phase]string{
	fleet.PhaseDeliver: "delivered", fleet.PhaseVerify: "verified", fleet.PhaseApply: "applied and read back", fleet.PhaseCommit: "committed", fleet.PhaseAck: "acknowledged",
}
