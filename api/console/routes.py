"""Every route of the console."""

from api.console import acting, assets, live, notification, search, sign_in, statistics

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
    live.get_live,
    live.get_live_facts,
    statistics.get_statistics,
)
