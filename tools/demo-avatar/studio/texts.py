"""Sentences to speak: generated for training, hand-written for validation.

Nothing is downloaded. Training sentences are strung together from word lists
chosen for phonetic variety; meaning does not matter to the mouth.
"""
import numpy as np

WORDS = {
    "en-us": """the a my your this that every some we they people mother father baby boy girl teacher doctor
 pilot farmer painter singer river mountain window garden kitchen bottle pepper butter paper apple purple
 bubble maple map lamp jump number member summer memory money monday morning evening yellow blue green brown
 violet orange silver golden heavy happy funny lovely very over never ever five seven eleven voice move
 believe above of fifty fish food photo coffee laugh enough thing think thought three through throw tooth
 mouth other another breathe smooth weather with water wait want world word work wonder wave window west
 swim sweet twenty quick quiet queen question show shoe sugar ship shape share measure vision pleasure usual
 chair child church choose teach reach watch judge june general juice orange age bridge look book good could
 would put pull food moon school room rule true you use music few new boat home open over road no go slow
 known old cold house out about sound round now how down town boy toy join point noise oil day say way rain
 name great make take plate face by my time life light night right five see tree green mean piece reach sit
 big little ship finish set bed red head ten said hat man bad cat apple after ask arm car far heart start
 father calm hot not stop body long song law saw thought caught talk all bought cup but love some blood
 bird girl first learn turn sure pure here near there care where air is are was were do does did has have
 can may must should walks runs sings opens closes paints carries follows remembers brings buys sells meets
 and or but so because before after under between around near beyond without maybe perhaps often always
 slowly quickly gently softly warmly probably possibly please thank hello goodbye welcome yes okay""",
    "de": """der die das ein mein dein guten morgen abend vater mutter kind haus baum wasser feuer blume apfel
 brot butter milch zucker schule schiff fisch tisch mensch freund freude heute gestern immer über unter zwischen
 schön grün müde süß größe öffnen hören fühlen wollen möchten kommen gehen sprechen fragen antworten bauen
 ja nein vielleicht danke bitte wir ihr sie und oder aber weil wenn bevor pferd apfel kopf zwei drei fünf
 straße stein spiel zeit welt woche wunder wagen vogel viel vier lieben leben bleiben bringen bunt blau""",
    "es": """el la los una mi tu buenos días noche padre madre niño casa árbol agua fuego flor manzana pan leche
 azúcar escuela barco pez mesa hombre amigo alegría hoy ayer siempre sobre entre bonito verde feliz grande abrir
 oír sentir querer venir ir hablar preguntar responder sí no quizás gracias por favor nosotros ellos y o pero
 porque cuando antes ventana montaña pequeño mañana llave lluvia perro carro zapato corazón viaje música""",
    "fr": """le la les une mon ton bonjour soir père mère enfant maison arbre eau feu fleur pomme pain beurre lait
 sucre école bateau poisson table homme ami joie hier toujours sur entre beau vert heureux grand ouvrir
 entendre sentir vouloir venir parler demander répondre oui non merci nous vous ils et ou mais parce quand
 avant fenêtre montagne petit demain lumière musique voiture jouer pouvoir vouloir boire bleu brun blanc""",
    "it": """il la gli una mio tuo buongiorno sera padre madre bambino casa albero acqua fuoco fiore mela pane
 burro latte zucchero scuola barca pesce tavolo uomo amico gioia oggi ieri sempre sopra tra bello verde felice
 grande aprire sentire volere venire parlare chiedere rispondere sì no forse grazie noi voi loro e o ma perché
 quando prima finestra montagna piccolo domani chiave pioggia cane macchina scarpa cuore viaggio musica""",
}
WORDS["en-gb-x-rp"] = WORDS["en-us"]

# (language, probability) of a training sentence.
LANGUAGES = (("en-us", 0.48), ("en-gb-x-rp", 0.22), ("de", 0.09), ("es", 0.08), ("fr", 0.06), ("it", 0.07))

# Variants of the voice; the held-out ones are never heard in training.
TRAIN_VARIANTS = ("", "f1", "f2", "f3", "f5", "m1", "m2", "m3", "m5", "m6", "m7", "Alicia", "Andy", "aunty",
                  "belinda", "benjamin", "boris", "david", "ed", "edward", "Gene", "Hugo", "iven", "iven3", "john",
                  "Lee", "linda", "Mario", "max", "Michael", "michel", "Mike", "paul", "pedro", "quincy", "rob",
                  "robert", "steph", "steph2", "victor", "zac", "anika", "shelby", "sandro", "caleb", "grandma",
                  "klatt", "klatt2", "klatt4", "adam", "antonio", "Diogo", "marcelo", "miguel", "norbert")
HELD_OUT_VARIANTS = ("f4", "m4", "Annie", "Andrea", "travis", "m8", "steph3", "Alex")

HELD_OUT_SENTENCES = (
    "Welcome! My name is Mira, and I am happy to meet you today.",
    "Maybe we should move the blue umbrella before the storm comes.",
    "Five brave foxes jumped over the frozen fountain.",
    "How about a cup of warm apple tea by the window?",
    "She sells smooth pebbles and shiny shells at the market.",
    "Please press the button below to begin a new conversation.",
    "The old clock above the piano stopped at half past five.",
    "I would love to show you how my lips follow every word.",
    "Papa bought a purple balloon for the birthday party.",
    "Good evening, this is a short test of the open source server.",
    "You never know what tomorrow brings, so enjoy the view.",
    "Both of them thought the weather was wonderful in the mountains.",
    "We wait quietly while the water slowly warms.",
    "Open the door, Bob, and give me the map.",
    "The judge chose a cheerful song about the ocean.",
    "Nothing makes me happier than a bowl of fresh raspberries.",
)


def training_sentence(rng):
    """-> (language, text)."""
    langs, p = zip(*LANGUAGES)
    lang = str(rng.choice(langs, p=np.array(p) / sum(p)))
    words = WORDS[lang].split()
    picked = [str(w) for w in rng.choice(words, size=int(rng.integers(3, 13)))]
    if len(picked) > 6 and rng.random() < 0.5:  # a comma makes a pause
        picked[len(picked) // 2 - 1] += ","
    if rng.random() < 0.10:  # counting and spelling, as demos do
        picked = [str(int(rng.integers(0, 2000))) for _ in range(int(rng.integers(1, 4)))]
    return lang, " ".join(picked) + str(rng.choice([".", ".", "!", "?"]))
