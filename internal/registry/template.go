package registry

import (
	"strings"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// Chain are the templates that an environment is made of, the most general first. Without a template it is empty.
func (s *Sources) Chain(environment string) ([]*Manifest, error) {
	m, found := s.Manifest(KindEnvironment + "/" + environment)
	if !found {
		return nil, nil
	}
	e, err := m.index()
	if err != nil {
		return nil, m.errorAt(err)
	}
	wanted := e.environment.Template
	if wanted.Name == "" {
		return nil, nil
	}
	chain, err := s.extended(m, "/spec/template", wanted.Name, nil)
	if err != nil {
		return nil, err
	}
	if last := chain[len(chain)-1]; wanted.Version != "" && last.Template().Version != wanted.Version {
		return nil, m.errorAt(wrong("/spec/template", "version %s of template %s is pinned, and its version is %s at %s", wanted.Version, wanted.Name, last.Template().Version, last.Place()))
	}
	return chain, nil
}

// extended is the chain that ends with the template of a name, which stands at a path of a manifest; below are the names that led there.
func (s *Sources) extended(by *Manifest, path, name string, below []string) ([]*Manifest, error) {
	for i, before := range below {
		if before == name {
			return nil, by.errorAt(wrong(path, "the templates %s extend each other in a circle", strings.Join(below[i:], ", ")))
		}
	}
	m, found := s.Manifest(KindTemplate + "/" + name)
	if !found {
		return nil, by.errorAt(wrong(path, "there is no template %s%s", name, didYouMean(name, s.names(KindTemplate))))
	}
	t, err := m.index()
	if err != nil {
		return nil, m.errorAt(err)
	}
	if t.template.Extends == "" {
		return []*Manifest{m}, nil
	}
	chain, err := s.extended(m, "/spec/extends", t.template.Extends, append(below, name))
	return append(chain, m), err
}

func (s *Sources) names(kind string) []string {
	var out []string
	for _, m := range s.OfKind(kind) {
		out = append(out, m.Name())
	}
	return out
}

func didYouMean(name string, among []string) string {
	if near := config.Nearest(name, among); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
