package exchange

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// jsonAnnotation names, in a ConfigMap, the entries whose text is JSON.
const jsonAnnotation = "lockstep.dev/json"

// maxConfigMap is what Kubernetes takes.
const maxConfigMap = 1 << 20

// writeConfigMap writes variables as a Kubernetes ConfigMap that has the environment's name.
func writeConfigMap(environment string, values Values) ([]byte, error) {
	type metadata struct {
		Name        string            `json:"name"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	out := struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   metadata          `json:"metadata"`
		Data       map[string]string `json:"data"`
	}{"v1", "ConfigMap", metadata{Name: environment}, map[string]string{}}
	var inJSON []string
	size := 0
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name := strings.TrimPrefix(key, "variable/")
		text, isJSON := flat(values[key])
		if isJSON {
			inJSON = append(inJSON, name)
		}
		out.Data[name] = text
		size += len(name) + len(text)
	}
	if size > maxConfigMap {
		return nil, fmt.Errorf("the variables have %d bytes; a ConfigMap holds at most %d", size, maxConfigMap)
	}
	if len(inJSON) > 0 {
		out.Metadata.Annotations = map[string]string{jsonAnnotation: strings.Join(inJSON, ",")}
	}
	b, err := events.Encode(out)
	if err != nil {
		return nil, err
	}
	return config.YAML(b)
}

// readConfigMap reads the ConfigMaps of a file; what they hold is variables.
func readConfigMap(name string, data []byte) (Values, error) {
	documents, err := config.Documents(name, data)
	if err != nil {
		return nil, err
	}
	values := Values{}
	for _, d := range documents {
		leaves, err := d.Leaves()
		if err != nil {
			return nil, err
		}
		if err := readEntries(values, d, leaves); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func readEntries(values Values, d config.Document, leaves []config.Leaf) error {
	fail := func(l config.Leaf, format string, args ...any) error {
		return &config.Error{File: d.File, Line: l.Line, Column: l.Column, Message: fmt.Errorf(format, args...).Error()}
	}
	kind, inJSON := "", map[string]bool{}
	for _, l := range leaves {
		switch l.Path {
		case "/kind":
			_ = json.Unmarshal(l.Value.JSON, &kind) // anything else is no ConfigMap
		case "/metadata/annotations/" + strings.ReplaceAll(jsonAnnotation, "/", "~1"):
			var names string
			_ = json.Unmarshal(l.Value.JSON, &names) // an annotation is a text
			for _, name := range strings.Split(names, ",") {
				inJSON[name] = true
			}
		}
	}
	if kind != "ConfigMap" {
		return &config.Error{File: d.File, Line: d.Line, Column: d.Column, Message: fmt.Sprintf("this is no ConfigMap, its kind is %q: take the ConfigMaps alone", kind)}
	}
	for _, l := range leaves {
		if strings.HasPrefix(l.Path, "/binaryData/") {
			return fail(l, "binary data cannot be configuration: keep the file elsewhere, and refer to it")
		}
		name, ok := strings.CutPrefix(l.Path, "/data/")
		if !ok {
			continue
		}
		name = unescape.Replace(name)
		var text string
		if l.Ambiguous || string(l.Value.JSON) == "null" || json.Unmarshal(l.Value.JSON, &text) != nil {
			return fail(l, "a ConfigMap holds texts: put this value in quotes")
		}
		value, err := unflat(text, inJSON[name])
		if err == nil {
			err = values.put("variable/"+name, value)
		}
		if err != nil {
			return fail(l, "%w", err)
		}
	}
	return nil
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~") // RFC 6901
