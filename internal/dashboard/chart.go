package dashboard

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

// leastLag is where charts begin, in seconds. They are drawn on a logarithmic scale: lag is of interest at both ends.
const leastLag = 0.01

// height is where a lag stands on a scale up to most, from 0 to 1.
func height(seconds, most float64) float64 {
	return math.Log(min(max(seconds, leastLag), most)/leastLag) / math.Log(most/leastLag)
}

const (
	sparkWidth, sparkHeight = 104, 24
	sparkMost               = 3600 // seconds; the same for all, so that they can be compared
)

// spark is the lag of an environment's newest releases as a small line. The words beside it say the same.
func spark(points []fleet.LagPoint) template.HTML {
	if len(points) == 0 {
		return ""
	}
	var line strings.Builder
	var first, x, y float64
	slowest := points[0]
	for i, p := range points {
		x = 2 + float64(i+sparkPoints-len(points))*(sparkWidth-4)/(sparkPoints-1)
		y = 3 + (sparkHeight-6)*(1-height(p.Seconds, sparkMost))
		if i == 0 {
			first = x
		}
		fmt.Fprintf(&line, "L%.0f %.1f", x, y)
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
	return template.HTML(fmt.Sprintf(`<svg class="%s" role="img" aria-label="%s" width="%d" height="%d" viewBox="0 0 %d %d"><path class="under" d="M%.0f %d%sV%dZ"/><path class="line" d="M%s"/><circle cx="%.0f" cy="%.1f" r="2.5"/></svg>`,
		class, words, sparkWidth, sparkHeight, sparkWidth, sparkHeight, first, sparkHeight, line.String(), sparkHeight, line.String()[1:], x, y)) // of numbers
}

// course is how a quantile went over time as a small line, on the scale of spark; where nothing was released there is none of it.
func course(over []fleet.Quantiles) template.HTML {
	var line strings.Builder
	x, y, drawn := 0.0, 0.0, false
	least, most := math.Inf(1), 0.0
	for i, q := range over {
		if q.Count == 0 {
			continue
		}
		x = 2 + float64(i)*(sparkWidth-4)/float64(max(len(over)-1, 1))
		y = 3 + (sparkHeight-6)*(1-height(q.P95, sparkMost))
		fmt.Fprintf(&line, "%c%.1f %.1f", map[bool]rune{false: 'M', true: 'L'}[drawn], x, y)
		least, most, drawn = min(least, q.P95), max(most, q.P95), true
	}
	if !drawn {
		return ""
	}
	return template.HTML(fmt.Sprintf(`<svg class="spark" role="img" aria-label="p95 over time: between %s and %s" width="%d" height="%d" viewBox="0 0 %d %d"><path class="under" d="M2 %dH%d"/><path class="line" d="%s"/><circle cx="%.1f" cy="%.1f" r="2.5"/></svg>`,
		fleet.Span(least), fleet.Span(most), sparkWidth, sparkHeight, sparkWidth, sparkHeight, sparkHeight-1, sparkWidth-2, line.String(), x, y)) // of numbers
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

// unfinished is the way of a release that an agent has not acknowledged: when its phases ended is not known.
func unfinished() template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="waterfall" role="img" aria-label="not acknowledged yet" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d"><path class="p-way" d="M1 %[3]d H%[4]d" /><path class="p-tip" d="M%[4]d %[5]d l5 %[6]d l-5 %[6]d"/></svg>`,
		waterfallWidth, waterfallHeight, waterfallHeight/2, waterfallWidth-7, waterfallHeight/2-4, 4)) // of numbers
}

// phaseWords are the phases for people.
var phaseWords = map[fleet.Phase]string{
	fleet.PhaseDeliver: "received", fleet.PhaseVerify: "verified", fleet.PhaseApply: "applied and read back", fleet.PhaseCommit: "committed", fleet.PhaseAck: "acknowledged",
}

// phaseWord is a phase for people.
func phaseWord(p fleet.Phase) string {
	switch p {
	case fleet.PhasePublish:
		return "published"
	case fleet.PhaseTotal:
		return "all of it"
	}
	return phaseWords[p]
}

// bar is a share of a whole; a number beside it says the same.
func bar(part, whole int) template.HTML {
	const width, height = 160, 10
	if whole == 0 {
		return ""
	}
	share := float64(part) / float64(whole)
	return template.HTML(fmt.Sprintf(`<svg class="bar" aria-hidden="true" width="%d" height="%d" viewBox="0 0 %d %d" preserveAspectRatio="none"><rect width="%.1f" height="%d"/></svg>`,
		width, height, width, height, width*share, height)) // of numbers
}

const (
	chartWidth, chartHeight                    = 960, 240
	chartLeft, chartRight, chartTop, chartFoot = 56, 56, 10, 24
)

// overTime draws the quantiles of lag over a window of time, on a logarithmic scale.
func overTime(p fleet.Propagation) template.HTML {
	var b strings.Builder
	x := func(i int) float64 {
		return chartLeft + (float64(i)+0.5)*(chartWidth-chartLeft-chartRight)/float64(len(p.Buckets))
	}
	lines := []float64{0.01, 0.1, 1, 10, 60, 600, 3600, 86400}
	for len(lines) > 3 && lines[len(lines)-2] >= p.All.Max {
		lines = lines[:len(lines)-1]
	}
	y := func(seconds float64) float64 {
		return chartTop + (1-height(seconds, lines[len(lines)-1]))*(chartHeight-chartTop-chartFoot)
	}
	fmt.Fprintf(&b, `<svg class="chart" role="img" aria-label="Lag over time: half within %s, 95 in 100 within %s, 99 in 100 within %s" viewBox="0 0 %d %d">`,
		fleet.Span(p.All.P50), fleet.Span(p.All.P95), fleet.Span(p.All.P99), chartWidth, chartHeight)
	for _, seconds := range lines {
		fmt.Fprintf(&b, `<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" class="end">%s</text>`, chartLeft, y(seconds), chartWidth-chartRight, chartLeft-6, y(seconds)+4, fleet.Span(seconds))
	}
	form, ticks := "01-02 15:04", 4
	if days := int(p.Until.Sub(p.Since).Round(time.Hour) / (24 * time.Hour)); days > 2 {
		form = "01-02"
		for ticks = 8; ticks > 1 && days%ticks != 0; ticks-- { // whole days apart
		}
	}
	for i := range ticks + 1 {
		at := p.Since.Add(p.Until.Sub(p.Since) / time.Duration(ticks) * time.Duration(i))
		fmt.Fprintf(&b, `<text x="%d" y="%d" class="middle">%s</text>`, chartLeft+i*(chartWidth-chartLeft-chartRight)/ticks, chartHeight-6, at.UTC().Format(form))
	}
	for _, line := range []struct {
		name, share string
		of          func(fleet.Quantiles) float64
	}{
		{"p99", "99 in 100", func(q fleet.Quantiles) float64 { return q.P99 }},
		{"p95", "95 in 100", func(q fleet.Quantiles) float64 { return q.P95 }},
		{"p50", "half", func(q fleet.Quantiles) float64 { return q.P50 }},
	} {
		var d strings.Builder
		points := ""
		drawn := false
		for i, bucket := range p.Buckets {
			if bucket.Count == 0 {
				continue
			}
			fmt.Fprintf(&d, "%c%.1f %.1f", map[bool]rune{false: 'M', true: 'L'}[drawn], x(i), y(line.of(bucket.Quantiles)))
			points += fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="2.5"><title>%s from %s: %s within %s</title></circle>`, x(i), y(line.of(bucket.Quantiles)),
				count(bucket.Count, "release", "releases"), bucket.From.UTC().Format("01-02 15:04Z"), line.share, fleet.Span(line.of(bucket.Quantiles)))
			drawn = true
		}
		fmt.Fprintf(&b, `<g class="q-%s"><path d="%s"/>%s</g>`, line.name, d.String(), points)
	}
	b.WriteString("</svg>")
	legend := `<ul class="legend">`
	for _, name := range []string{"p50", "p95", "p99"} {
		legend += `<li><svg class="chart key" width="28" height="10" aria-hidden="true"><g class="q-` + name + `"><path d="M0 5H28"/></g></svg> ` + name + `</li>`
	}
	return template.HTML(legend + "</ul>" + b.String()) // of numbers and our words
}
