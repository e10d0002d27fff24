package dashboard

import (
	"fmt"
	"html/template"
	"math"
	"strings"

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
