package main

import (
	"errors"
	"strings"
	"time"
)

var (
	errMoment = errors.New("want 2026-12-24, 2026-12-24T18:00:00Z, or a length such as 36h or 14d")
	errPast   = errors.New("that is over")
)

// later is the end of a length of time from now, in whole seconds.
func later(now time.Time, length time.Duration) (time.Time, error) {
	if length <= 0 {
		return time.Time{}, errPast
	}
	return now.Add(length).UTC().Truncate(time.Second), nil
}

// timeOf is a time that a person wrote, or the end of a length of time from now.
func timeOf(text string, now time.Time) (time.Time, error) {
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		if length, err := time.ParseDuration(days + "h"); err == nil {
			return later(now, 24*length)
		}
	}
	if length, err := time.ParseDuration(text); err == nil {
		return later(now, length)
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return later(now, t.Sub(now))
		}
	}
	return time.Time{}, errMoment
}
