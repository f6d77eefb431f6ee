"""The edge policy that a new agent begins with. Data; `escalations.edges` says what it means."""

from typing import Any, Final

HANDOVER: Final = {
    "en": "I am passing this to a colleague, who will answer you here.",
    "pl": "Przekazuję sprawę koleżance lub koledze z zespołu. Odpowiedź pojawi się tutaj.",
    "de": "Ich gebe das an eine Kollegin oder einen Kollegen weiter. Die Antwort kommt hier.",
}
PERSON: Final = {
    "en": "Of course. A colleague takes over and will answer you here.",
    "pl": "Oczywiście. Sprawę przejmuje osoba z naszego zespołu i odpowie tutaj.",
    "de": "Gern. Eine Kollegin oder ein Kollege übernimmt und antwortet Ihnen hier.",
}
# Where nobody decided by the deadline, and the rule does not keep waiting.
ON_TIMEOUT: Final[dict[str, dict[str, str]]] = {
    "holding_message": {
        "en": "Thank you for your patience. A colleague has your message and will answer you as soon as possible.",
        "pl": "Dziękujemy za cierpliwość. Nasz zespół ma Twoją wiadomość i odpowie najszybciej, jak to możliwe.",
        "de": "Danke für Ihre Geduld. Ihre Nachricht liegt unserem Team vor, die Antwort kommt so bald wie möglich.",
    },
    "safe_refusal": {
        "en": "I am sorry, we could not settle this here. Please write to us again.",
        "pl": "Przykro nam, nie udało się tego tutaj załatwić. Prosimy napisać do nas ponownie.",
        "de": "Es tut uns leid, das ließ sich hier nicht klären. Bitte schreiben Sie uns noch einmal.",
    },
}

DEFAULT_POLICY: Final[dict[str, Any]] = {
    "thresholds": {"confidence": 0.55},
    "most_clarifying": 1,
    "rules": [
        {
            "edge": "paused",
            "when": {"paused": True},
            "priority": 2,
            "says": "The agent is paused, so a person answers.",
            "message": HANDOVER,
        },
        {
            "edge": "pilot",
            "when": {"stage": "pilot", "tester": False},
            "says": "This scope is in its pilot: only testers get the agent's answers.",
            "message": HANDOVER,
        },
        {
            "edge": "legal",
            "when": {"legal": True},
            "queue": "urgent",
            "priority": 1,
            "says": "The customer speaks of lawyers, authorities, the press or harm.",
            "message": {
                "en": "Thank you for writing. A colleague who can decide this will answer you personally.",
                "pl": "Dziękujemy za wiadomość. Odpowie na nią osobiście osoba, która może o tym zdecydować.",
                "de": "Danke für Ihre Nachricht. Jemand, der das entscheiden kann, antwortet Ihnen persönlich.",
            },
        },
        {
            "edge": "asked_for_person",
            "when": {"asked_for_person": True},
            "priority": 2,
            "says": "The customer asks for a person.",
            "message": PERSON,
        },
        {
            "edge": "guardrail_in",
            "when": {"screening_in": "block"},
            "action": "refuse",
            "says": "The message was blocked by a guardrail: {families}.",
        },
        {
            "edge": "guardrail_in",
            "when": {"screening_in": "escalate", "covered": True},
            "queue": "security",
            "priority": 2,
            "says": "A guardrail wants a person to look at the message: {families}.",
            "message": HANDOVER,
        },
        {
            "edge": "uncovered_language",
            "when": {"covered": False},
            "skill": "languages",
            "says": "The message is in a language that the guardrails do not cover ({language}).",
            "message": HANDOVER,
        },
        {
            "edge": "guardrail_out",
            "when": {"screening_out": {"in": ["block", "escalate"]}},
            "queue": "security",
            "priority": 2,
            "says": "The draft was held back by a guardrail: {families}.",
            "message": HANDOVER,
        },
        {
            "edge": "budget_spent",
            "when": {"budget_state": "spent"},
            "action": "refuse",
            "says": "The budget is spent.",
            "message": {
                "en": "Our assistant has reached its limit and is back at {resets_at}. E-mail reaches us meanwhile.",
                "pl": "Nasz asystent wyczerpał limit i wróci {resets_at}. Nadal można do nas napisać e-mail.",
                "de": "Unser Assistent hat sein Limit erreicht, zurück um {resets_at}. Per E-Mail sind wir da.",
            },
        },
        {
            "edge": "budget_low",
            "when": {"budget_state": "low"},
            "priority": 3,
            "says": "The budget is nearly spent: a person looks before the answer goes out.",
            "message": HANDOVER,
        },
        {
            "edge": "loop",
            "when": {"loop": True},
            "queue": "technical",
            "priority": 2,
            "says": "The agent went round in circles and was stopped.",
            "message": HANDOVER,
        },
        {
            "edge": "irreversible_action",
            "when": {"risk": {"in": ["money", "irreversible"]}},
            "priority": 2,
            "says": "Money or something that cannot be undone is at stake.",
            "message": HANDOVER,
        },
        {
            "edge": "integration",
            "when": {"integration": {"ne": "ok"}},
            "queue": "technical",
            "priority": 2,
            "says": "No model answered ({integration}), and nothing is answered from memory.",
            "message": HANDOVER,
        },
        {
            "edge": "identity",
            "when": {"identity_missing": True},
            "says": "The question concerns an account, and nobody knows whose.",
            "message": HANDOVER,
        },
        {
            "edge": "out_of_scope",
            "when": {"out_of_scope": True},
            "says": "The question is outside what the knowledge base covers.",
            "priority": 4,
            "message": {
                "en": "That is outside what I can help with. I am passing it to a colleague in case they can.",
                "pl": "To wykracza poza sprawy, w których mogę pomóc. Przekazuję je zespołowi – może ktoś będzie mógł.",
                "de": "Dabei kann ich nicht helfen. Ich gebe es weiter, falls jemand aus dem Team es kann.",
            },
        },
        {
            "edge": "ambiguous",
            "when": {"ambiguous": True, "clarified_count": {"lt": 1}},
            "action": "clarify",
            "says": "The question can mean several things.",
            "message": {
                "en": "I want to be sure that I understand. Which of these do you mean?\n{choices}",
                "pl": "Chcę się upewnić, że dobrze rozumiem. O co dokładnie chodzi?\n{choices}",
                "de": "Ich möchte sicher sein, dass ich Sie richtig verstehe. Was meinen Sie?\n{choices}",
            },
        },
        {
            "edge": "ambiguous",
            "when": {"ambiguous": True, "clarified_count": {"gte": 1}},
            "says": "The question is still ambiguous after one clarifying question.",
            "message": HANDOVER,
        },
        {
            "edge": "no_answer",
            "when": {"answerable": False, "ambiguous": False},
            "says": "The knowledge base has no answer to this.",
            "message": HANDOVER,
        },
        {
            "edge": "returned_twice",
            "when": {"returned_count": {"gt": 2}},
            "priority": 2,
            "says": "It went back to the agent more than twice.",
            "message": HANDOVER,
        },
        {
            "edge": "anger",
            "when": {"anger": True},
            "priority": 1,
            "says": "The customer is angry: a person should answer first.",
            "message": HANDOVER,
        },
        {
            "edge": "repeated_contact",
            "when": {"contact_count": {"gte": 3}},
            "priority": 2,
            "says": "The customer came with {contacts} matters in seven days.",
            "message": HANDOVER,
        },
        {
            "edge": "low_confidence",
            "when": {"confidence": {"lt": "confidence"}},
            "says": "The agent is only {confidence} sure of this draft.",
            "message": HANDOVER,
        },
        {
            "edge": "sample",
            "when": {"sampled": True},
            "mode": "log_only",
            "priority": 4,
            "says": "Drawn at random for a quality check.",
        },
    ],
}
