"""Public import names: `rlaas.sdk`. Re-exports only; the code lives in `rlaas_ray`."""
