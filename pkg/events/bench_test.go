package events_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// kilobyte is the payload of a release of about a kilobyte of operations.
func kilobyte(b *testing.B) []byte {
	var edits []foldtest.Edit
	for i := range 4 {
		edits = append(edits, foldtest.Set("dev", fmt.Sprintf("endpoint/e%d", i), `{"url":"https://pay.example/api/v1/orders","timeoutSeconds":30,"retries":3,"weights":[10,20,70]}`))
	}
	return released(b, edits...)
}

func released(b *testing.B, edits ...foldtest.Edit) []byte {
	p := foldtest.New(b)
	p.Trust("dev")
	return p.Seal(p.Draft(edits...)...)[0].Payload
}

func BenchmarkDecodeRelease(b *testing.B) {
	for name, payload := range map[string][]byte{"number": released(b, foldtest.Set("dev", "variable/limit", "17")), "kilobyte": kilobyte(b)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := events.DecodeRelease(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheckJSON(b *testing.B) {
	payload := kilobyte(b)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := events.CheckJSON(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyWave(b *testing.B) {
	chains := make([]events.Digest, 2000)
	for i := range chains {
		chains[i] = events.Sum(fmt.Append(nil, i))
	}
	headers, err := foldtest.Signer(b, "publisher").SignWave("l", chains)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := events.VerifyWave("l", chains[999], headers[999], anyone); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHostileNumbers is a payload of the numbers that cost most.
func BenchmarkHostileNumbers(b *testing.B) {
	payload := []byte("[")
	for len(payload) < 1<<20 {
		payload = append(payload, "2.2250738585072014e-308,1.7976931348623157e-300,"...)
	}
	payload = append(payload, "1]"...)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if err := events.CheckJSON(payload); err != nil {
			b.Fatal(err)
		}
	}
}
