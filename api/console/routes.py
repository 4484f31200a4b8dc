"""Every route of the console."""

from api.console import acting, assets, live, notification, recipients, search, sign_in, statistics, suppressions

ROUTES = (
    assets.get_asset,
    sign_in.get_sign_in,
    sign_in.post_sign_in,
    sign_in.post_sandbox_sign_in,
    sign_in.post_sign_out,
    search.get_search,
    search.post_search,
    notification.get_notification,
    notification.post_reveal,
    notification.post_content,
    acting.get_deed,
    acting.post_deed,
    recipients.get_recipient,
    recipients.post_reveal,
    suppressions.get_suppressions,
    suppressions.post_search,
    suppressions.post_suppression,
    suppressions.get_suppression,
    suppressions.post_release,
    live.get_live,
    live.get_live_facts,
    statistics.get_statistics,
)
