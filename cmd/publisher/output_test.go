package main

import (
	"testing"
	"time"
)

func TestASpanLosesNoDigitThatCounts(t *testing.T) {
	for given, want := range map[time.Duration]string{
		0: "0ms", time.Microsecond: "<1ms", time.Second: "1s", 1500 * time.Millisecond: "1.5s", 10 * time.Second: "10s", 30 * time.Second: "30s",
		time.Minute: "1m", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", time.Hour: "1h", 70 * time.Minute: "1h10m",
		2*time.Hour + 10*time.Minute + 20*time.Second: "2h10m", 20 * time.Hour: "20h", 48 * time.Hour: "2d",
	} {
		if got := span(given.Seconds()); got != want {
			t.Errorf("%s is shown as %s, want %s", given, got, want)
		}
	}
}
