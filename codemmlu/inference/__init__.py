"""Every missing (question, spec) becomes one durable answer; answers become the votes of a voter."""
