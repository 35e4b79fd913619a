"""What the demo shop has: products, pages, campaigns, browsers, phones, crawlers, and one experiment.

Everything here is a constant. The names follow Segment's e-commerce spec, the user agents are real ones, and hosts
and addresses are those reserved for documentation (RFC 2606, RFC 5737).
"""

from __future__ import annotations

from dataclasses import dataclass

ORIGIN = "https://larkhill.example"
SHOP_NAME = "Larkhill Outdoor"
CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the shop; `name` is what its page event is called."""

    path: str
    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Product:
    """An article; its price is in cents, so that sums of an order are exact."""

    sku: str
    name: str
    category: str
    price: int

    @property
    def page(self) -> Page:
        return Page(f"/products/{self.sku.lower()}", "Product", f"{self.name} · {SHOP_NAME}")


@dataclass(frozen=True, slots=True)
class Campaign:
    """Where a visit comes from. `medium` is None for unpaid traffic, which carries no UTM parameters."""

    channel: str
    source: str | None
    medium: str | None
    name: str | None
    referrer: str
    weight: float
    intent: float  # multiplies the odds of putting something into the cart and of buying it


@dataclass(frozen=True, slots=True)
class Agent:
    """A browser, or a phone with the shop's app."""

    user_agent: str
    weight: float
    mobile: bool
    app: bool = False


HOME = Page("/", "Home", f"{SHOP_NAME}: gear for bad weather")
SEARCH = Page("/search", "Search", f"Search · {SHOP_NAME}")
CART = Page("/cart", "Cart", f"Your cart · {SHOP_NAME}")
CHECKOUT = Page("/checkout", "Checkout", f"Checkout · {SHOP_NAME}")
THANKS = Page("/checkout/thank-you", "Thank You", f"Thank you · {SHOP_NAME}")
SIGN_UP = Page("/signup", "Sign Up", f"Create an account · {SHOP_NAME}")
SIGN_IN = Page("/login", "Sign In", f"Sign in · {SHOP_NAME}")
ACCOUNT = Page("/account", "Account", f"Your account · {SHOP_NAME}")
ARTICLES = (
    Page("/journal/layering", "Journal", f"How to layer for the cold · {SHOP_NAME}"),
    Page("/journal/first-hut-tour", "Journal", f"Your first hut-to-hut tour · {SHOP_NAME}"),
    Page("/help/returns", "Help", f"Returns · {SHOP_NAME}"),
    Page("/help/shipping", "Help", f"Shipping · {SHOP_NAME}"),
)

PRODUCTS = (
    Product("LH-1001", "Fell Rain Jacket", "Jackets", 18_900),
    Product("LH-1002", "Tarn Down Jacket", "Jackets", 24_900),
    Product("LH-1003", "Scree Wind Shell", "Jackets", 9_900),
    Product("LH-1004", "Bothy Fleece", "Jackets", 7_950),
    Product("LH-2001", "Cairn Hiking Boot", "Footwear", 16_500),
    Product("LH-2002", "Ridge Trail Runner", "Footwear", 12_900),
    Product("LH-2003", "Camp Slipper", "Footwear", 4_500),
    Product("LH-2004", "Merino Hiking Sock", "Footwear", 1_990),
    Product("LH-3001", "Two-Person Tent “Lichen”", "Camping", 32_900),
    Product("LH-3002", "Sleeping Bag −5 °C", "Camping", 19_900),
    Product("LH-3003", "Insulated Mat", "Camping", 8_900),
    Product("LH-3004", "Crème Brûlée Torch & Stove", "Camping", 5_490),
    Product("LH-4001", "45 l Trekking Pack", "Packs", 17_900),
    Product("LH-4002", "22 l Day Pack", "Packs", 8_950),
    Product("LH-4003", "Roll-Top Dry Bag", "Packs", 2_490),
    Product("LH-4004", "Hip Pack", "Packs", 3_990),
    Product("LH-5001", "Headlamp 400", "Accessories", 4_990),
    Product("LH-5002", "Steel Bottle 0.75 l", "Accessories", 2_750),
    Product("LH-5003", "Folding Poles", "Accessories", 9_450),
    Product("LH-5004", "First Aid Kit", "Accessories", 2_990),
)
CATEGORIES = {
    category: Page(f"/c/{category.lower()}", "Category", f"{category} · {SHOP_NAME}")
    for category in dict.fromkeys(product.category for product in PRODUCTS)
}
SEARCHES = ("rain jacket", "tent 2p", "wool socks", "boots wide fit", "gift card", "stove", "crampons", "läufer weste")

AD_PLATFORMS = ("google", "facebook", "bing", "linkedin", "tiktok", "x", "reddit", "pinterest")
CAMPAIGNS = (
    Campaign("Google Ads", "google", "cpc", "brand-search", "https://www.google.com/", 9.0, 1.5),
    Campaign("Google Ads", "google", "cpc", "shopping-jackets", "https://www.google.com/", 8.0, 1.3),
    Campaign("Meta", "facebook", "paid_social", "autumn-layers", "https://l.facebook.com/", 7.0, 0.9),
    Campaign("Meta", "facebook", "paid_social", "cart-reminder", "https://l.instagram.com/", 3.0, 1.6),
    Campaign("Microsoft Ads", "bing", "cpc", "boots-search", "https://www.bing.com/", 3.0, 1.2),
    Campaign("LinkedIn Ads", "linkedin", "paid_social", "corporate-gifts", "https://www.linkedin.com/", 1.5, 0.6),
    Campaign("TikTok Ads", "tiktok", "paid_social", "hut-tour-clips", "https://www.tiktok.com/", 5.0, 0.4),
    Campaign("X Ads", "x", "paid_social", "storm-warning", "https://t.co/", 1.5, 0.5),
    Campaign("Reddit Ads", "reddit", "paid_social", "ultralight", "https://www.reddit.com/", 2.0, 0.9),
    Campaign("Pinterest Ads", "pinterest", "paid_social", "cosy-camp", "https://www.pinterest.com/", 2.5, 0.7),
    Campaign("E-mail", "newsletter", "email", "weekly-letter", "", 6.0, 1.7),
    Campaign("Organic search", None, None, None, "https://www.google.com/", 18.0, 1.0),
    Campaign("Organic search", None, None, None, "https://duckduckgo.com/", 4.0, 1.0),
    Campaign("Direct", None, None, None, "", 29.5, 1.2),
)

MOBILE_SHARE = 0.62  # of the visits by browser: the shares of the agents below, and what the planted drop relies on
_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
BROWSERS = (
    Agent(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.1 Mobile/15E148 Safari/604.1",
        0.30,
        mobile=True,
    ),
    Agent(f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/130.0.0.0 Mobile Safari/537.36", 0.25, mobile=True),
    Agent(
        f"Mozilla/5.0 (Linux; Android 14; SM-S918B) {_WEBKIT} SamsungBrowser/26.0 Chrome/122.0.0.0 "
        "Mobile Safari/537.36",
        0.07,
        mobile=True,
    ),
    Agent(f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/130.0.0.0 Safari/537.36", 0.16, mobile=False),
    Agent(
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0",
        0.06,
        mobile=False,
    ),
    Agent(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.1 Safari/605.1.15",
        0.10,
        mobile=False,
    ),
    Agent("Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0", 0.06, mobile=False),
)
KIOSK = (
    "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.7 Mobile/15E148 Safari/604.1"
)
PHONES = (
    # the app's contexts: library, app, device, os, as Segment's mobile SDKs send them
    '"library":{"name":"analytics-swift","version":"1.6.2"},'
    '"app":{"name":"Larkhill","version":"4.2.1","build":"421","namespace":"example.larkhill.app"},'
    '"device":{"type":"ios","manufacturer":"Apple","model":"iPhone15,2"},"os":{"name":"iOS","version":"18.1"}',
    '"library":{"name":"analytics-kotlin","version":"1.16.3"},'
    '"app":{"name":"Larkhill","version":"4.2.0","build":"420","namespace":"example.larkhill.app"},'
    '"device":{"type":"android","manufacturer":"Google","model":"Pixel 8"},"os":{"name":"Android","version":"14"}',
)
BOTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) {_WEBKIT} Chrome/130.0.0.0 Mobile Safari/537.36 "
    "(compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
)
LOCALES = (
    ("en-US", "America/New_York", 0.46),
    ("en-GB", "Europe/London", 0.18),
    ("de-DE", "Europe/Berlin", 0.16),
    ("fr-FR", "Europe/Paris", 0.10),
    ("es-ES", "Europe/Madrid", 0.06),
    ("ja-JP", "Asia/Tokyo", 0.04),
)

EXPERIMENT_ID = "one-page-checkout"
EXPERIMENT_NAME = "One-page checkout"
ARMS = ("control", "one-page")
COMPLETION = (0.56, 0.66)  # of the checkouts that an arm sees, the share that ends in an order: the planted lift

FIRST_NAMES = (
    "Ada", "Bram", "Chidi", "Dana", "Elif", "Farid", "Grace", "Hana", "Ivo", "Jun", "Kaya", "Liv", "Mateo", "Noor",
    "Oskar", "Priya", "Quinn", "Rosa", "Sven", "Tomoko", "Uma", "Vera", "Wren", "Ximena", "Yusuf", "Zoë",
)  # fmt: skip
LAST_NAMES = (
    "Abel", "Brandt", "Castillo", "Dubois", "Eriksen", "Fischer", "García", "Haddad", "Ito", "Jansen", "Kowalski",
    "Lindqvist", "Moreau", "Nakamura", "Okafor", "Petrov", "Quiroga", "Rossi", "Silva", "Tanaka", "Usman", "Vogel",
)  # fmt: skip
