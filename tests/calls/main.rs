//! One list of scenarios, run against every stack that makes authorized calls.

mod requests;
mod scenarios;
mod uploads;

use alvys_auth_sandbox::Sandbox;
use alvys_auth_tests::stacks::{ReqwestClient, ReqwestMiddleware, TowerLayer, UreqClient, UreqMiddleware};

/// Runs each scenario once per stack.
macro_rules! conformance {
    ($($module:ident: $($scenario:ident)*;)*) => {
        mod reqwest_client {
            $($(#[test] fn $scenario() { crate::calls::scenarios::$module::$scenario::<super::ReqwestClient>(); })*)*
        }
        mod reqwest_middleware {
            $($(#[test] fn $scenario() { crate::calls::scenarios::$module::$scenario::<super::ReqwestMiddleware>(); })*)*
        }
        mod tower_layer {
            $($(#[test] fn $scenario() { crate::calls::scenarios::$module::$scenario::<super::TowerLayer>(); })*)*
        }
        mod ureq_client {
            $($(#[test] fn $scenario() { crate::calls::scenarios::$module::$scenario::<super::UreqClient>(); })*)*
        }
        mod ureq_middleware {
            $($(#[test] fn $scenario() { crate::calls::scenarios::$module::$scenario::<super::UreqMiddleware>(); })*)*
        }
    };
}

/// Runs each scenario once per stack, all stacks at the same time: for those that mostly wait.
macro_rules! conformance_at_once {
    ($($module:ident: $($scenario:ident)*;)*) => {
        $(mod $module {
            $(#[test] fn $scenario() {
                use crate::calls::scenarios::$module::$scenario;
                alvys_auth_tests::at_once(&[
                    ("reqwest_client", $scenario::<super::ReqwestClient>),
                    ("reqwest_middleware", $scenario::<super::ReqwestMiddleware>),
                    ("tower_layer", $scenario::<super::TowerLayer>),
                    ("ureq_client", $scenario::<super::UreqClient>),
                    ("ureq_middleware", $scenario::<super::UreqMiddleware>),
                ]);
            })*
        })*
    };
}

/// Runs each scenario once per stack whose calls can be dropped half-way.
macro_rules! async_conformance {
    ($($scenario:ident)*) => {
        mod cancelled_reqwest_client {
            $(#[test] fn $scenario() { crate::calls::scenarios::cancelling::$scenario::<super::ReqwestClient>(); })*
        }
        mod cancelled_reqwest_middleware {
            $(#[test] fn $scenario() { crate::calls::scenarios::cancelling::$scenario::<super::ReqwestMiddleware>(); })*
        }
        mod cancelled_tower_layer {
            $(#[test] fn $scenario() { crate::calls::scenarios::cancelling::$scenario::<super::TowerLayer>(); })*
        }
    };
}

conformance![
    sending:
        a_call_is_authorized_and_its_token_is_shared
        json_goes_out_and_comes_back
        every_method_and_header_arrives
        body_bytes_arrive_whole
        a_body_goes_out_with_its_length_first_and_again
        a_path_goes_out_in_the_same_bytes_whatever_the_stack
        a_length_or_coding_of_the_callers_own_is_kept
        a_long_stream_goes_out_whole_and_once
        a_long_answer_comes_back_whole
        an_answer_that_is_not_about_the_token_is_delivered_whatever_its_status;
    renewals:
        a_401_to_an_old_token_costs_one_renewal_and_one_replay
        a_replayed_body_arrives_whole_again
        a_hundred_calls_that_see_401_cost_one_token
        a_second_401_is_an_error_that_names_the_likely_cause
        a_401_to_a_young_token_is_told_at_once
        a_streamed_body_is_not_sent_again_after_a_401
        a_token_that_cannot_be_had_is_told_as_it_is;
    refusals:
        a_403_that_names_the_scope_is_told_with_it
        a_403_that_names_nothing_is_told_by_the_table
        a_403_although_the_scope_is_there_is_a_refusal
        a_403_that_cannot_be_read_to_its_end_is_told_by_its_head
        a_required_scope_that_lacks_sends_nothing
        a_required_scope_that_is_there_lets_the_call_pass
        a_web_page_in_place_of_the_api_is_told_as_one
        a_web_page_that_asks_for_a_token_is_about_the_token
        a_success_without_content_is_delivered_whatever_its_label
        a_web_page_that_was_asked_for_is_delivered;
    destinations:
        a_foreign_host_is_refused_before_anything_is_sent
        another_port_of_this_machine_may_have_the_token
        a_redirect_to_another_host_arrives_there_without_the_token
        what_another_host_answers_is_delivered_and_costs_no_token
        a_web_page_that_a_redirect_leads_to_is_told_as_one
        a_redirect_to_plain_http_elsewhere_takes_neither_token_nor_body_along
        a_redirect_there_and_back_gets_no_token_at_the_end
        a_redirect_onwards_at_the_other_host_takes_no_token_along
        a_redirect_within_the_api_is_followed
        a_post_that_may_have_been_carried_out_before_a_redirect_is_sent_once
        a_redirect_back_to_where_it_began_sends_no_post_twice
        redirects_in_a_circle_end
        a_request_with_an_authorization_of_its_own_is_left_alone;
    failures:
        a_reset_connection_is_an_error_and_sent_again_once_where_that_is_safe
        a_call_that_a_kept_connection_swallows_is_sent_again_where_that_is_safe
        interim_answers_without_end_are_given_up
        a_truncated_answer_is_an_error
        a_silent_server_ends_in_an_error
        a_closed_server_ends_in_an_error;
];

conformance_at_once![
    waiting:
        a_rate_limit_in_seconds_is_sat_out
        an_outage_with_a_date_is_sat_out
        an_outage_without_a_time_is_tried_again
        a_wait_beyond_the_patience_is_told_at_once
        waits_add_up_to_the_patience_and_no_more
        a_post_is_not_repeated_after_an_outage
        an_idempotent_post_is_repeated_whole
        a_streamed_body_is_not_repeated_even_if_idempotent;
    destinations:
        a_call_that_may_happen_twice_is_sent_again_after_a_redirect;
    failures:
        a_refusal_without_end_is_told_by_its_head
        a_refusal_that_falls_silent_is_told_by_its_head;
    shaping:
        a_shaped_crowd_meets_no_limit a_shaped_crowd_that_waits_for_a_token_meets_no_limit
        those_who_queue_behind_a_401_go_out_with_another_token
        those_who_queue_while_a_lost_token_is_replaced_meet_no_limit
        an_unshaped_crowd_is_blocked
        a_blocked_endpoint_is_left_alone_and_others_go_on
        a_block_is_known_to_all_who_share_the_token
        a_store_that_cannot_be_used_holds_no_call_up
        a_blocked_endpoint_is_called_again_once_the_block_is_over
        a_limit_beyond_the_patience_is_told_and_nothing_sent
        a_call_that_is_held_back_when_it_is_repeated_says_that_it_was_sent;
];

async_conformance![
    a_call_dropped_while_the_api_is_silent_wedges_nothing
    a_call_dropped_while_its_token_is_fetched_wedges_nothing
    a_call_dropped_while_it_waits_for_its_turn_wedges_nothing
    a_call_dropped_between_a_401_and_its_replay_wedges_nothing
];

fn start() -> Sandbox {
    Sandbox::start().expect("a sandbox")
}
