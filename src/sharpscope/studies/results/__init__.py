"""From a store to tables, figures and reports."""
