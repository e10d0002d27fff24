package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// A Clone is the manifest of an environment that begins as another one is.
type Clone struct {
	File   string // where the other one's manifest stands
	YAML   string
	Review []Finding // what people should look at
}

// Clone writes the manifest of an environment that begins as another one is, with labels of its own: what resources say for the other
// one by name, the manifest says itself. Waivers are not taken over: each is somebody's decision.
func (s *Sources) Clone(from, to string, labels map[string]string) (Clone, error) {
	m, found := s.Manifest(KindEnvironment + "/" + from)
	if !found {
		return Clone{}, fmt.Errorf("the directory has no manifest of environment %s%s", from, didYouMean(from, s.names(KindEnvironment)))
	}
	if err := CheckName(to); err != nil {
		return Clone{}, err
	}
	out := Clone{File: m.Place().File}
	values, err := tree(m.leaves, "")
	if err != nil {
		return out, err
	}
	metadata, spec := object(values, "metadata"), object(values, "spec")
	values["kind"], metadata["name"] = kindName(KindEnvironment), to
	delete(metadata, "labels")
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	if w := m.Environment().Waivers; len(w) > 0 {
		delete(spec, "waivers")
		out.Review = append(out.Review, Finding{m.PlaceOf("/spec/waivers"), fmt.Sprintf("%d waivers of %s are not taken over", len(w), from)})
	}
	own, _ := spec["overrides"].(map[string]any)
	overrides := map[string]any{}
	for _, r := range s.manifests {
		if !r.whole || !r.IsResource() {
			continue
		}
		at := "/spec/overrides/" + escape(from)
		if leaves := under(r.leaves, at); len(leaves) > 0 {
			patch, err := tree(leaves, at)
			if err != nil {
				return out, err
			}
			overrides[r.Key] = patch[""]
		}
		if slices.Contains(r.Resource().Activation.Environments, from) {
			out.Review = append(out.Review, Finding{r.PlaceOf("/spec/activation/environments"), fmt.Sprintf("%s is active in %s by name, and not in %s", r.Key, from, to)})
		}
	}
	for key, patch := range own {
		overrides[key] = onto(overrides[key], patch)
	}
	if delete(spec, "overrides"); len(overrides) > 0 {
		spec["overrides"] = overrides
	}
	b, err := json.Marshal(values)
	if err != nil {
		return out, err
	}
	text, err := config.YAML(b)
	out.YAML = string(text)
	return out, err
}

// tree is leaves below a prefix as values; what is no object stands under an empty name.
func tree(leaves []Leaf, prefix string) (map[string]any, error) {
	relative := slices.Clone(leaves)
	for i := range relative {
		relative[i].Path = relative[i].Path[len(prefix):]
	}
	b, err := assemble(relative, "")
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(b, &value); err != nil {
		return nil, err
	}
	if prefix != "" {
		return map[string]any{"": value}, nil
	}
	out, _ := value.(map[string]any)
	return out, nil
}

func object(in map[string]any, name string) map[string]any {
	out, ok := in[name].(map[string]any)
	if !ok {
		out = map[string]any{}
		in[name] = out
	}
	return out
}

// onto is one merge patch on another: applied, they do what both do one after the other.
func onto(below, above any) any {
	a, first := below.(map[string]any)
	b, second := above.(map[string]any)
	if !first || !second {
		return above
	}
	out := maps.Clone(a)
	for name, value := range b {
		out[name] = onto(out[name], value)
	}
	return out
}

// Borrowed are the values of a rendered environment that may be meant for another one only: those that hold one of the words, and
// references to secrets, which both would share.
func (r *Rendering) Borrowed(words []string) []Finding {
	var quoted []string
	for _, word := range words {
		quoted = append(quoted, regexp.QuoteMeta(word))
	}
	holds := regexp.MustCompile(`(?i)(?:^|[^a-z0-9])(` + strings.Join(quoted, "|") + `)(?:[^a-z0-9]|$)`)
	var out []Finding
	for _, resource := range r.Resources {
		for _, o := range resource.Origins() {
			var text string
			if json.Unmarshal(o.Value, &text) != nil {
				continue
			}
			say := func(why string) {
				at := resource.Key
				if o.Path != "" {
					at += " at " + o.Path
				}
				out = append(out, Finding{Place{o.File, o.Line}, fmt.Sprintf("%s is %s: %s", at, o.Value, why)})
			}
			if strings.HasSuffix(o.Path, "/$secret/ref") {
				say("the same secret")
			} else if found := holds.FindStringSubmatch(text); found != nil && len(words) > 0 {
				say("it holds " + found[1])
			}
		}
	}
	return out
}
