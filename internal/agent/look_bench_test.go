package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

func BenchmarkLook(b *testing.B) {
	dir := b.TempDir()
	values := map[string]json.RawMessage{}
	for i := range 1000 {
		values[fmt.Sprintf("v-%d", i)] = json.RawMessage(fmt.Sprintf(`{"limit":%d,"name":"value of %d"}`, i, i))
	}
	text, _ := json.MarshalIndent(values, "", "  ")
	if err := os.WriteFile(filepath.Join(dir, "v.json"), text, 0o600); err != nil {
		b.Fatal(err)
	}
	config := file.Config{Root: dir, Files: []file.File{{Path: "v.json", Resources: []connector.Glob{"variable/*"}}}}
	conn, err := file.Open("files", config, "", "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	router, err := connector.NewRouter([]connector.Route{{Resources: config.Resources(), Connector: conn}})
	if err != nil {
		b.Fatal(err)
	}
	c := &chain{opts: &Options{Router: router, Clock: time.Now, Intervals: Intervals{Check: time.Nanosecond}}, checkpoint: store.Checkpoint{Revision: 1}}
	for key, value := range values {
		c.applied.Set("variable/"+key, fold.Resource{Value: value})
	}
	b.ReportAllocs()
	for b.Loop() {
		if !c.look(context.Background(), time.Now().Add(time.Hour)) || len(c.differing) > 0 {
			b.Fatal(c.differing)
		}
	}
}
