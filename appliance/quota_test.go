package appliance_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

// A quota that was answered is there after a power cut.
func TestQuotasOutliveAKill(t *testing.T) {
	s := newSite(t)
	client := "gateway-7"
	entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: &client}}
	done, err := kadm.NewClient(s.client()).AlterClientQuotas(t.Context(), []kadm.AlterClientQuotaEntry{
		{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 250_000}}},
	})
	if err != nil || done[0].Err != nil {
		t.Fatal(err, done)
	}
	s.restart(true)
	got, err := kadm.NewClient(s.client()).DescribeClientQuotas(t.Context(), false, nil)
	if err != nil || len(got) != 1 || *got[0].Entity[0].Name != client || got[0].Values[0].Value != 250_000 {
		t.Errorf("%+v, %v", got, err)
	}
}
