package sidecar

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/embedded"
)

// A bootMeter makes the instruments of one boot. What is observed of its rooms is
// observed no longer once it has ended: the next boot's rooms go on under the same
// names. It has the kinds of observation that the rooms use; others outlive it.
type bootMeter struct {
	metric.Meter

	mu            sync.Mutex
	registrations []metric.Registration
}

// end forgets the rooms.
func (m *bootMeter) end() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, r := range m.registrations {
		errs = append(errs, r.Unregister())
	}
	m.registrations = nil
	return errors.Join(errs...)
}

func (m *bootMeter) observe(callback metric.Callback, instrument metric.Observable) error {
	r, err := m.RegisterCallback(callback, instrument)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registrations = append(m.registrations, r)
	return nil
}

func (m *bootMeter) observeInt64(callbacks []metric.Int64Callback, instrument metric.Int64Observable) error {
	return m.observe(func(ctx context.Context, o metric.Observer) error {
		var errs []error
		for _, callback := range callbacks {
			errs = append(errs, callback(ctx, int64Observer{observer: o, instrument: instrument}))
		}
		return errors.Join(errs...)
	}, instrument)
}

// Int64ObservableGauge implements [metric.Meter].
func (m *bootMeter) Int64ObservableGauge(name string, options ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	c := metric.NewInt64ObservableGaugeConfig(options...)
	g, err := m.Meter.Int64ObservableGauge(name, metric.WithUnit(c.Unit()), metric.WithDescription(c.Description()))
	if err != nil {
		return nil, err
	}
	return g, m.observeInt64(c.Callbacks(), g)
}

// Int64ObservableCounter implements [metric.Meter].
func (m *bootMeter) Int64ObservableCounter(name string, options ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	c := metric.NewInt64ObservableCounterConfig(options...)
	g, err := m.Meter.Int64ObservableCounter(name, metric.WithUnit(c.Unit()), metric.WithDescription(c.Description()))
	if err != nil {
		return nil, err
	}
	return g, m.observeInt64(c.Callbacks(), g)
}

// Float64ObservableGauge implements [metric.Meter].
func (m *bootMeter) Float64ObservableGauge(name string, options ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	c := metric.NewFloat64ObservableGaugeConfig(options...)
	g, err := m.Meter.Float64ObservableGauge(name, metric.WithUnit(c.Unit()), metric.WithDescription(c.Description()))
	if err != nil {
		return nil, err
	}
	return g, m.observe(func(ctx context.Context, o metric.Observer) error {
		var errs []error
		for _, callback := range c.Callbacks() {
			errs = append(errs, callback(ctx, float64Observer{observer: o, instrument: g}))
		}
		return errors.Join(errs...)
	}, g)
}

type int64Observer struct {
	embedded.Int64Observer
	observer   metric.Observer
	instrument metric.Int64Observable
}

// Observe implements [metric.Int64Observer].
func (o int64Observer) Observe(value int64, options ...metric.ObserveOption) {
	o.observer.ObserveInt64(o.instrument, value, options...)
}

type float64Observer struct {
	embedded.Float64Observer
	observer   metric.Observer
	instrument metric.Float64Observable
}

// Observe implements [metric.Float64Observer].
func (o float64Observer) Observe(value float64, options ...metric.ObserveOption) {
	o.observer.ObserveFloat64(o.instrument, value, options...)
}
