//! The cases of the OpenMetrics test data (`data/openmetrics`) by name, and the rule that each bad one breaks.

/// Hands all cases to the macro `$tests`, which makes a test of each.
macro_rules! openmetrics_cases {
    ($tests:ident) => {
        $tests! {
            accepted: [
                counter_exemplars
                counter_exemplars_empty_brackets
                counter_unit
                duplicate_timestamps_0
                duplicate_timestamps_1
                empty_brackets
                empty_help
                empty_label
                empty_metadata
                escaping
                exemplars_wide_chars
                exemplars_with_hash_in_label_values
                float_gauge
                gaugehistogram_exemplars
                hash_in_label_value
                help_escaping
                histogram_exemplars
                histogram_noncanonical
                info_timestamps
                label_escaping
                labels_and_infinite
                labels_with_curly_braces
                leading_zeros_float_gauge
                leading_zeros_simple_gauge
                nan
                nan_gauge
                negative_bucket_gaugehistogram
                negative_bucket_histogram
                no_metadata
                no_newline_after_eof
                null_byte
                roundtrip
                simple_counter
                simple_gauge
                simple_gaugehistogram
                simple_histogram
                simple_stateset
                simple_summary
                summary_quantiles
                timestamps
                type_help_switched
                uint64_counter
                unit_gauge
                untyped
            ]
            refused: [
                bad_blank_line: Page
                bad_clashing_names_0: MetadataOrder
                bad_clashing_names_1: MetadataOrder
                bad_clashing_names_2: NameClash
                bad_counter_values_0: SampleValue
                bad_counter_values_1: SampleValue
                bad_counter_values_10: SampleValue
                bad_counter_values_11: SampleValue
                bad_counter_values_12: SampleValue
                bad_counter_values_13: Histogram
                bad_counter_values_14: SampleValue
                bad_counter_values_15: SampleValue
                bad_counter_values_16: SampleValue
                bad_counter_values_17: SampleValue
                bad_counter_values_18: SampleValue
                bad_counter_values_19: SampleValue
                bad_counter_values_2: SampleValue
                bad_counter_values_3: SampleValue
                bad_counter_values_4: SampleValue
                bad_counter_values_5: SampleValue
                bad_counter_values_6: SampleValue
                bad_counter_values_7: SampleValue
                bad_counter_values_8: SampleValue
                bad_counter_values_9: Histogram
                bad_exemplar_complex_chars: ExemplarPlace
                bad_exemplar_timestamp_0: Timestamp
                bad_exemplar_timestamp_1: Timestamp
                bad_exemplar_timestamp_2: Timestamp
                bad_exemplars_0: Exemplar
                bad_exemplars_1: Value
                bad_exemplars_10: Exemplar
                bad_exemplars_11: Exemplar
                bad_exemplars_12: Timestamp
                bad_exemplars_2: Exemplar
                bad_exemplars_3: Exemplar
                bad_exemplars_4: Timestamp
                bad_exemplars_5: Exemplar
                bad_exemplars_6: ExemplarPlace
                bad_exemplars_7: Value
                bad_exemplars_8: Timestamp
                bad_exemplars_9: Value
                bad_exemplars_on_unallowed_metric_types_0: ExemplarPlace
                bad_exemplars_on_unallowed_metric_types_1: ExemplarPlace
                bad_exemplars_on_unallowed_metric_types_2: ExemplarPlace
                bad_exemplars_on_unallowed_samples_0: ExemplarPlace
                bad_exemplars_on_unallowed_samples_1: ExemplarPlace
                bad_exemplars_on_unallowed_samples_2: ExemplarPlace
                bad_exemplars_on_unallowed_samples_3: ExemplarPlace
                bad_grouping_or_ordering_0: Histogram
                bad_grouping_or_ordering_1: Labels
                bad_grouping_or_ordering_10: Grouping
                bad_grouping_or_ordering_2: Histogram
                bad_grouping_or_ordering_3: NameClash
                bad_grouping_or_ordering_4: Grouping
                bad_grouping_or_ordering_5: Grouping
                bad_grouping_or_ordering_6: Grouping
                bad_grouping_or_ordering_7: Grouping
                bad_grouping_or_ordering_8: Grouping
                bad_grouping_or_ordering_9: Grouping
                bad_help_0: Metadata
                bad_help_1: Name
                bad_help_2: Metadata
                bad_help_3: Metadata
                bad_help_4: Name
                bad_histograms_0: Histogram
                bad_histograms_1: Histogram
                bad_histograms_10: Histogram
                bad_histograms_11: Histogram
                bad_histograms_12: RequiredLabel
                bad_histograms_13: Histogram
                bad_histograms_14: Histogram
                bad_histograms_2: Histogram
                bad_histograms_3: Histogram
                bad_histograms_4: Metadata
                bad_histograms_5: Metadata
                bad_histograms_6: Histogram
                bad_histograms_7: Histogram
                bad_histograms_8: Histogram
                bad_histograms_9: Histogram
                bad_info_and_stateset_values_0: SampleValue
                bad_info_and_stateset_values_1: SampleValue
                bad_invalid_labels_0: Labels
                bad_invalid_labels_1: Labels
                bad_invalid_labels_2: Labels
                bad_invalid_labels_3: Labels
                bad_invalid_labels_4: Labels
                bad_invalid_labels_5: Labels
                bad_invalid_labels_6: Value
                bad_invalid_labels_7: Labels
                bad_invalid_labels_8: Labels
                bad_metadata: Metadata
                bad_metadata_in_wrong_place_0: MetadataOrder
                bad_metadata_in_wrong_place_1: MetadataOrder
                bad_metadata_in_wrong_place_2: MetadataOrder
                bad_metric_names_0: Name
                bad_metric_names_1: Value
                bad_metric_names_2: Value
                bad_missing_equal_or_label_value_0: Labels
                bad_missing_equal_or_label_value_1: Labels
                bad_missing_equal_or_label_value_2: Labels
                bad_missing_equal_or_label_value_3: Labels
                bad_missing_equal_or_label_value_4: Labels
                bad_missing_or_extra_commas_0: Labels
                bad_missing_or_extra_commas_1: Labels
                bad_missing_or_extra_commas_2: Labels
                bad_missing_or_invalid_labels_for_a_type_0: RequiredLabel
                bad_missing_or_invalid_labels_for_a_type_1: RequiredLabel
                bad_missing_or_invalid_labels_for_a_type_2: RequiredLabel
                bad_missing_or_invalid_labels_for_a_type_3: RequiredLabel
                bad_missing_or_invalid_labels_for_a_type_4: RequiredLabel
                bad_missing_or_invalid_labels_for_a_type_5: RequiredLabel
                bad_missing_or_invalid_labels_for_a_type_6: RequiredLabel
                bad_missing_or_invalid_labels_for_a_type_7: RequiredLabel
                bad_missing_or_wrong_quotes_on_label_value_0: Labels
                bad_missing_or_wrong_quotes_on_label_value_1: Labels
                bad_missing_or_wrong_quotes_on_label_value_2: Labels
                bad_missing_value_0: Value
                bad_missing_value_1: Value
                bad_no_eof: Page
                bad_repeated_metadata_0: MetadataOrder
                bad_repeated_metadata_1: MetadataOrder
                bad_repeated_metadata_2: Metadata
                bad_repeated_metadata_3: MetadataOrder
                bad_stateset_info_values_0: RequiredLabel
                bad_stateset_info_values_1: SampleName
                bad_stateset_info_values_2: RequiredLabel
                bad_stateset_info_values_3: SampleName
                bad_text_after_eof_0: Page
                bad_text_after_eof_1: Page
                bad_timestamp_0: Timestamp
                bad_timestamp_1: Timestamp
                bad_timestamp_2: Timestamp
                bad_timestamp_3: Timestamp
                bad_timestamp_4: Timestamp
                bad_timestamp_5: Timestamp
                bad_timestamp_6: Timestamp
                bad_timestamp_7: Timestamp
                bad_timestamp_8: Timestamp
                bad_type_0: Metadata
                bad_type_1: Name
                bad_type_2: Metadata
                bad_type_3: Metadata
                bad_type_4: Metadata
                bad_type_5: Metadata
                bad_type_6: Metadata
                bad_type_7: Metadata
                bad_unit_0: Metadata
                bad_unit_1: Name
                bad_unit_2: Metadata
                bad_unit_3: Metadata
                bad_unit_4: Unit
                bad_unit_5: Unit
                bad_unit_6: Unit
                bad_unit_7: Unit
                bad_value_0: Value
                bad_value_1: Value
                bad_value_10: Value
                bad_value_11: Value
                bad_value_12: Value
                bad_value_2: Value
                bad_value_3: Timestamp
                bad_value_4: Value
                bad_value_5: Value
                bad_value_6: Value
                bad_value_7: Value
                bad_value_8: Value
                bad_value_9: Value
            ]
        }
    };
}
