//! How chat models decline, by language. Texts are compared in lower case, with plain apostrophes and single spaces.

/// The phrases of a language.
pub(super) struct Language {
    /// What may stand before: an apology, a regret, a preamble about what the speaker is.
    before: &'static str,
    /// How an answer is declined after that.
    phrases: &'static [&'static str],
    /// What must follow.
    end: &'static str,
}

impl Language {
    pub(super) fn pattern(&self) -> String {
        format!("^(?:{})(?:{}){}", self.before, self.phrases.join("|"), self.end)
    }
}

const WORD_END: &str = r"\b";

pub(super) const ALL: [Language; 5] = [
    // English. The speaker cannot or will not do what answering is; "we cannot share 7 equally" is no refusal.
    Language {
        before: r"(?:(?:(?:i'm|i am|we're|we are) )?(?:really |very |so |truly )?sorry|unfortunately|i apologi[sz]e|my apologies|regrettably|apologies)?[,.;:!]? ?(?:(?:but|however),? )?(?:as an? (?:ai|artificial intelligence|language model|large language model|assistant)[^,.]*, )?",
        phrases: &[
            r"(?:i|we) (?:can't|cannot|can not|won't|will not|am unable to|am not able to|are unable to|refuse to) (?:(?:really|currently|directly|actually|safely|ethically|legally) )?(?:help|assist|provide|answer|comply|fulfill?|solve|complete|discuss|engage|support|generate|respond|participate|continue|proceed|do (?:this|that|so))",
            r"i'm (?:unable|not able) to",
            r"i am (?:unable|not able) to",
            r"i must (?:respectfully )?decline",
            r"i (?:have|need) to decline",
            r"i (?:respectfully )?decline",
            r"i'm not (?:comfortable|going to|allowed to|permitted to)",
            r"i do not feel comfortable",
            r"i don't feel comfortable",
            r"(?:this|that|your) (?:request|question|content) (?:violates|goes against|is against)",
            // Says what a speaker is instead of what was asked.
            r"as an? (?:ai|artificial intelligence|language model|large language model)(?: \w+)*, i (?:can't|cannot|do not|don't|am not|am unable)",
        ],
        end: WORD_END,
    },
    // German.
    Language {
        before: r"(?:(?:es )?tut mir (?:sehr |wirklich )?leid|entschuldigung|entschuldigen sie|verzeihung|ich bedaure|bedauerlicherweise|leider)?[,.;:!]? ?(?:aber |doch )?(?:als (?:ein |eine )?(?:ki|künstliche intelligenz|sprachmodell|assistent|ki-[\w-]+)[^,.]*, )?",
        phrases: &[
            r"(?:ich|wir) (?:kann|können|darf|dürfen|möchte|werde|werden) (?:[\w-]+ ){0,5}nicht (?:weiter)?(?:helfen|beantworten|antworten|unterstützen|nachkommen|erfüllen|bereitstellen|fortfahren|dienen|entsprechen|bearbeiten|geben|liefern|eingehen)",
            r"(?:(?:leider|das|dies|dabei|damit|hierbei|dazu|diese (?:frage|anfrage)) )?(?:kann|darf|möchte|werde) ich (?:[\w-]+ ){0,5}nicht (?:weiter)?(?:helfen|beantworten|antworten|unterstützen|nachkommen|erfüllen|bereitstellen|fortfahren|dienen|entsprechen|bearbeiten|geben|liefern|eingehen)",
            r"(?:ich bin|bin ich) (?:leider )?nicht (?:in der lage|befugt|berechtigt)",
            r"ich muss (?:[\w-]+ ){0,3}ablehnen",
            r"ich lehne (?:[\w-]+ ){1,3}ab",
            r"es ist mir (?:leider )?nicht (?:möglich|erlaubt|gestattet)",
            r"als (?:ein |eine )?(?:ki|künstliche intelligenz|sprachmodell|ki-[\w-]+)(?: \w+)*,? (?:kann|darf|habe|bin) ich (?:[\w-]+ ){0,3}(?:nicht|keine|keinen)",
        ],
        end: WORD_END,
    },
    // French.
    Language {
        before: r"(?:(?:je suis )?(?:vraiment |sincèrement )?(?:désolée?|navrée?)|malheureusement|je regrette|pardon|excusez-moi|toutes mes excuses)?[,.;:!]? ?(?:mais )?(?:en tant qu(?:e |')(?:ia|intelligence artificielle|modèle de langage|assistant)[^,.]*, )?",
        phrases: &[
            r"je ne (?:peux|pourrai|puis|pourrais) (?:malheureusement )?(?:pas )?(?:(?:vous|te|en|y|directement) |t'|m')?(?:aider|répondre|assister|fournir|traiter|satisfaire|donner|continuer|effectuer|générer|discuter|accéder|engager)",
            r"je ne suis (?:malheureusement )?pas (?:en mesure|capable|autorisée?|habilitée?)",
            r"je suis (?:dans l'incapacité|incapable)",
            r"je (?:dois|me vois contrainte? de|préfère) (?:malheureusement )?(?:décliner|refuser)",
            r"je refuse de",
            r"il m'est impossible de",
        ],
        end: WORD_END,
    },
    // Spanish.
    Language {
        before: r"(?:lo siento(?: mucho)?|lo lamento(?: mucho)?|disculpa|disculpe|perdón|perdona|lamentablemente|desafortunadamente|por desgracia)?[,.;:!]? ?(?:pero )?(?:como (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje|asistente)[^,.]*, )?",
        phrases: &[
            r"(?:yo )?no (?:puedo|podré|podría|podemos) (?:\w+ )?(?:ayudar(?:te|le|les|os)?|responder(?:te|le|la)?|asistir(?:te|le)?|proporcionar(?:te|le|la)?|cumplir|continuar|generar(?:lo)?|completar(?:lo)?|ofrecer(?:te|le)?|contestar(?:te)?|brindar(?:te|le)?|participar|dar(?:te|le)?|hacer (?:eso|esto))",
            r"no (?:estoy|soy) (?:en condiciones|en posición|capaz|autorizad[oa])",
            r"no me es posible",
            r"(?:debo|tengo que|necesito) (?:negarme|rechazar|declinar)",
            r"me niego a",
        ],
        end: WORD_END,
    },
    // Chinese, in both scripts. Words are not separated, so nothing marks their end.
    Language {
        before: r"(?:(?:非常|很|十分|真的)?(?:抱歉|对不起|對不起|遗憾|遺憾)|不好意思)?[,，。!！:： ]*(?:但是?|不过|不過)?[,， ]*(?:作为(?:一个|一款|一名)?[^,，。]{1,20}[,，] ?)?",
        phrases: &[
            r"(?:我|我们|我們)(?:现在|目前|暂时|实在|恐怕)?(?:无法|無法|不能|没办法|沒辦法|没有办法|不可以|不便|拒绝|拒絕)(?:为您|为你|向您|向你|就此|对此|直接|继续)?(?:帮助|幫助|协助|協助|提供|回答|满足|滿足|完成|处理|處理|生成|讨论|討論|参与|執行|执行|回应|回應|继续|給出|给出|帮您|帮你)",
        ],
        end: "",
    },
];
