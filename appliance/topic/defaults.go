package topic

import "maps"

// Defaults are the configs that hold where a topic does not say.
func (s *Set) Defaults() map[string]string {
	s.creating.Lock()
	defer s.creating.Unlock()
	return maps.Clone(s.opts.Configs)
}

// SetDefaults replaces the configs that hold where a topic does not say
// (Options.Configs). They are in force for everything appended after; the Set does
// not keep them.
func (s *Set) SetDefaults(configs map[string]string) error {
	if err := CheckConfigs(configs); err != nil {
		return err
	}
	s.creating.Lock()
	defer s.creating.Unlock()
	s.opts.Configs = maps.Clone(configs)
	for _, t := range s.Topics() {
		t.settings.Store(resolve(t.Overrides(), s.opts.Configs, t.internal))
	}
	return nil
}
