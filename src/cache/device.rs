//! What kind of device asks, so that a page has four forms at most and not one for each version of each browser. It is said by
//! User-Agent alone: browsers that send `Sec-CH-UA-Mobile` say the same there, and only over TLS.

use crate::fields::FieldList;
use http::header;

/// As much of a User-Agent is looked at. Browsers' are hardly longer than 250 bytes.
const LONGEST: usize = 512;

/// The field that tells servers, as names are compared.
pub(crate) const X_DEVICE: &str = "x-device";

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Phone,
    Tablet,
    /// And whatever does not say what it is.
    Desktop,
    /// A crawler or a fetcher of previews, which says so.
    Bot,
}

impl Device {
    /// As servers are told.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Desktop => "desktop",
            Self::Bot => "bot",
        }
    }

    /// That of a request.
    pub(crate) fn of(fields: FieldList<'_>) -> Self {
        Self::by(fields.first(&header::USER_AGENT).unwrap_or_default())
    }

    /// By a User-Agent.
    fn by(user_agent: &[u8]) -> Self {
        let signs = signs(user_agent);
        let has = |sign: Sign| signs & sign as u8 != 0;
        if has(Sign::Bot) {
            Self::Bot
        } else if has(Sign::Tv) && !has(Sign::Mobile) {
            // As large as a desktop's screen.
            Self::Desktop
        } else if has(Sign::Tablet) {
            Self::Tablet
        } else if has(Sign::Phone) {
            Self::Phone
        } else if has(Sign::Mobile) {
            // An iPad that says that it is a Mac, in pages that apps show.
            if has(Sign::Mac) { Self::Tablet } else { Self::Phone }
        } else if has(Sign::Android) {
            // Phones say `Mobile`.
            Self::Tablet
        } else {
            Self::Desktop
        }
    }
}

/// What a word in a User-Agent says.
#[derive(Clone, Copy)]
enum Sign {
    Bot = 1,
    Phone = 2,
    Tablet = 4,
    Tv = 8,
    Mobile = 16,
    Android = 32,
    Mac = 64,
    /// Nothing, though another word is in it.
    Nothing = 0,
}

/// A word, in lower case.
struct Word {
    text: &'static [u8],
    sign: Sign,
    /// It is one only where no letter stands behind it.
    is_end: bool,
}

const fn word(text: &'static str, sign: Sign) -> Word {
    Word { text: text.as_bytes(), sign, is_end: false }
}

const fn end(text: &'static str, sign: Sign) -> Word {
    Word { is_end: true, ..word(text, sign) }
}

/// By their first bytes. Of two that begin alike at one place the first counts.
static WORDS: [Word; 43] = [
    // Whoever crawls says where its owner can be found.
    word("+http", Sign::Bot),
    // Fire TV's models.
    word("; aft", Sign::Tv),
    word("android", Sign::Android),
    word("apis-google", Sign::Bot),
    word("bingpreview", Sign::Bot),
    word("blackberry", Sign::Phone),
    end("bot", Sign::Bot),
    word("bravia", Sign::Tv),
    word("crawl", Sign::Bot),
    word("crkey", Sign::Tv),
    // Phones.
    word("cubot", Sign::Nothing),
    word("dalvik", Sign::Phone),
    word("facebookcatalog", Sign::Bot),
    word("facebookexternalhit", Sign::Bot),
    word("feedfetcher", Sign::Bot),
    word("google-inspectiontool", Sign::Bot),
    word("google web preview", Sign::Bot),
    word("googleother", Sign::Bot),
    word("ia_archiver", Sign::Bot),
    word("ipad", Sign::Tablet),
    word("iphone", Sign::Phone),
    word("ipod", Sign::Phone),
    word("kindle", Sign::Tablet),
    word("macintosh", Sign::Mac),
    word("mediapartners-google", Sign::Bot),
    word("meta-external", Sign::Bot),
    word("midp", Sign::Phone),
    word("mobile", Sign::Mobile),
    word("netcast", Sign::Tv),
    word("nokia", Sign::Phone),
    word("opera mini", Sign::Phone),
    word("opera mobi", Sign::Phone),
    word("playbook", Sign::Tablet),
    word("roku", Sign::Tv),
    word("silk/", Sign::Tablet),
    word("slurp", Sign::Bot),
    word("spider", Sign::Bot),
    word("symbian", Sign::Phone),
    // Windows with a pen, which desktops had, too.
    word("tablet pc", Sign::Nothing),
    word("tablet", Sign::Tablet),
    end("tv", Sign::Tv),
    word("web0s", Sign::Tv),
    word("windows phone", Sign::Phone),
];

/// Where in `WORDS` those stand that begin with a byte: from which place to before which.
static BEGINNINGS: [(u8, u8); 256] = beginnings();

const fn beginnings() -> [(u8, u8); 256] {
    let mut places = [(0, 0); 256];
    let mut at = 0;
    while at < WORDS.len() {
        let (first, place) = (WORDS[at].text[0] as usize, at as u8);
        if places[first].1 == 0 {
            places[first].0 = place;
        }
        places[first].1 = place + 1;
        at += 1;
    }
    places
}

/// All that is said, each in its bit.
fn signs(user_agent: &[u8]) -> u8 {
    let text = &user_agent[..user_agent.len().min(LONGEST)];
    let (mut signs, mut at) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (from, before) = BEGINNINGS[usize::from(rest[0].to_ascii_lowercase())];
        let words = &WORDS[usize::from(from)..usize::from(before)];
        match words.iter().find(|word| word.begins(rest)) {
            Some(word) => {
                signs |= word.sign as u8;
                at += word.text.len();
            }
            None => at += 1,
        }
    }
    signs
}

impl Word {
    fn begins(&self, rest: &[u8]) -> bool {
        let Some((beginning, behind)) = rest.split_at_checked(self.text.len()) else { return false };
        beginning.eq_ignore_ascii_case(self.text)
            && !(self.is_end && behind.first().is_some_and(u8::is_ascii_alphabetic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    const WEBKIT: &str = "AppleWebKit/537.36 (KHTML, like Gecko)";

    #[test]
    fn a_user_agent_says_what_asks() {
        let chrome = |system: &str, end: &str| format!("Mozilla/5.0 ({system}) {WEBKIT} {end}");
        let (phone, tablet, desktop, bot) = (Device::Phone, Device::Tablet, Device::Desktop, Device::Bot);
        for (device, user_agent) in [
            (phone, "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1".to_owned()),
            (phone, "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1".to_owned()),
            (phone, "Mozilla/5.0 (iPod touch; CPU iPhone OS 12_5_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Mobile/15E148 Safari/604.1".to_owned()),
            (phone, chrome("Linux; Android 10; K", "Chrome/126.0.0.0 Mobile Safari/537.36")),
            (phone, chrome("Linux; Android 13; SM-S918B", "SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36")),
            (phone, chrome("Linux; Android 9; CUBOT_X19", "Chrome/74.0.3729.157 Mobile Safari/537.36")),
            (phone, chrome("Linux; Android 12; TV-Box X1", "Chrome/108.0.0.0 Mobile Safari/537.36")),
            (phone, "Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0".to_owned()),
            (phone, "Mozilla/5.0 (Mobile; LYF/F90M/LYF-F90M-000-02-28-130318; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5".to_owned()),
            (phone, chrome("Windows Phone 10.0; Android 6.0.1; Microsoft; Lumia 950", "Chrome/52.0.2743.116 Mobile Safari/537.36 Edge/15.15254")),
            (phone, "Opera/9.80 (J2ME/MIDP; Opera Mini/9.80 (S60; SymbOS; Opera Mobi/23.348/2.5.25; U; en) Presto/2.5.25 Version/10.54".to_owned()),
            (phone, "Mozilla/5.0 (BB10; Touch) AppleWebKit/537.10+ (KHTML, like Gecko) Version/10.0.9.2372 Mobile Safari/537.10+".to_owned()),
            (phone, "Dalvik/2.1.0 (Linux; U; Android 13; SM-G991B Build/TP1A.220624.014)".to_owned()),
            (tablet, chrome("Linux; Android 14; SM-X700", "Chrome/126.0.0.0 Safari/537.36")),
            (tablet, "Mozilla/5.0 (Android 13; Tablet; rv:127.0) Gecko/127.0 Firefox/127.0".to_owned()),
            (tablet, "Mozilla/5.0 (iPad; CPU OS 12_5_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Mobile/15E148 Safari/604.1".to_owned()),
            (tablet, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/400.0]".to_owned()),
            (tablet, "Mozilla/5.0 (Linux; U; en-US) AppleWebKit/528.5+ (KHTML, like Gecko, Safari/528.5+) Version/4.0 Kindle/3.0 (screen 600x800; rotate)".to_owned()),
            (tablet, chrome("Linux; Android 9; KFMAWI", "Silk/126.2.1 like Chrome/126.0.6478.122 Safari/537.36")),
            (tablet, "Mozilla/5.0 (PlayBook; U; RIM Tablet OS 2.1.0; en-US) AppleWebKit/536.2+ (KHTML, like Gecko) Version/7.2.1.0 Safari/536.2+".to_owned()),
            // What a newer iPad says is what a Mac says.
            (desktop, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15".to_owned()),
            (desktop, chrome("Windows NT 10.0; Win64; x64", "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0")),
            (desktop, "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; Touch; .NET4.0C; Tablet PC 2.0; rv:11.0) like Gecko".to_owned()),
            (desktop, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:127.0) Gecko/20100101 Firefox/127.0".to_owned()),
            (desktop, "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0".to_owned()),
            (desktop, chrome("X11; CrOS x86_64 14541.0.0", "Chrome/126.0.0.0 Safari/537.36")),
            (desktop, chrome("SMART-TV; Linux; Tizen 5.0", "Version/5.0 TV Safari/537.36")),
            (desktop, chrome("Web0S; Linux/SmartTV", "Chrome/94.0.4606.128 Safari/537.36 WebAppManager")),
            (desktop, chrome("Linux; Android 9; BRAVIA 4K UR2 Build/PTT1", "Chrome/114.0.0.0 Safari/537.36")),
            (desktop, chrome("Linux; Android 7.1.2; AFTMM", "Silk/112.5.1 like Chrome/112.0.5615.213 Safari/537.36")),
            (desktop, chrome("X11; Linux armv7l", "Chrome/90.0.4430.225 Safari/537.36 CrKey/1.56.500000")),
            (bot, chrome("Linux; Android 6.0.1; Nexus 5X Build/MMB29P", "Chrome/126.0.6478.61 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")),
            (bot, "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)".to_owned()),
            (bot, "Googlebot-Image/1.0".to_owned()),
            (bot, chrome("compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm", "Chrome/126.0.0.0 Safari/537.36")),
            (bot, "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)".to_owned()),
            (bot, "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)".to_owned()),
            (bot, "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)".to_owned()),
            (bot, "facebookexternalhit/1.1".to_owned()),
            (bot, "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)".to_owned()),
            (bot, format!("{WEBKIT}; compatible; GPTBot/1.2; +https://openai.com/gptbot)")),
            (desktop, "curl/8.5.0".to_owned()),
            (desktop, "python-requests/2.32.3".to_owned()),
            (desktop, String::new()),
            // What is no word of these.
            (desktop, "Mozilla/5.0 (botanical; ATVB) mobi".to_owned()),
        ] {
            assert_eq!(Device::by(user_agent.as_bytes()), device, "{user_agent}");
            assert_eq!(Device::by(user_agent.to_uppercase().as_bytes()), device, "{user_agent} in capitals");
        }
    }

    #[test]
    fn the_first_user_agent_counts_and_its_beginning_alone() {
        let mut fields = HeaderMap::new();
        assert_eq!(Device::of(FieldList::Map(&fields)), Device::Desktop);
        for value in ["iPhone", "bot"] {
            fields.append(header::USER_AGENT, HeaderValue::from_static(value));
        }
        assert_eq!(Device::of(FieldList::Map(&fields)), Device::Phone);
        let at = |place: usize| [&vec![b'a'; place][..], b"iPad"].concat();
        assert_eq!(
            [LONGEST - 4, LONGEST - 3].map(|place| Device::by(&at(place))),
            [Device::Tablet, Device::Desktop]
        );
        assert_eq!(Device::by(&[0xff; 600]), Device::Desktop);
    }

    #[test]
    fn the_words_of_one_first_byte_stand_together_in_lower_case() {
        for (at, word) in WORDS.iter().enumerate() {
            let (from, before) = BEGINNINGS[usize::from(word.text[0])];
            assert!((from..before).contains(&(at as u8)) && word.text == word.text.to_ascii_lowercase());
        }
        let counted: usize = BEGINNINGS.iter().map(|(from, before)| usize::from(before - from)).sum();
        assert_eq!(counted, WORDS.len());
    }
}
