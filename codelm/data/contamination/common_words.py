"""Words that say nothing about where a text comes from: keywords, builtins, usual names, the commonest English ones.

Compiled by us from the keywords of the 20 languages and everyday prose in comments; one list for all, as docstrings mix
both.
"""

COMMON_WORDS = frozenset(
    """
    about above abstract after all already also always and any append are args arr array assert async await because
    been before begin being below between bool boolean both break but byte bytes call can case catch char check class
    cls cmp code const contain containing contains continue copy could count cpp ctx current data debug def default
    del delete dict did does done double each echo eight either elem element elements elif else elseif elsif empty end
    enum enumerate equal equals err error esac every example examples except exception exit expected export extends
    extern false file final finally first five float following for format found four from func function get given
    global goto had has hash have head her here him his how however html http https i32 i64 idx impl implements import
    include index info init inline input instanceof int int32 int64 integer interface into item items iter its join
    just key keys kwargs lambda last left len length let lib like line lines list local log long loop made main make
    many map match max may min mod module more most msg much must mut name names namespace never new next nil nine
    node none nor not note now null num number numbers obj object once one only open operator option other otherwise
    our out output over override own package param parameter parameters params parse pass path pop pos position prefix
    print printf println private protected pub public push put puts raise range read ref register require res result
    results ret return returned returns right row rows same see self set seven she short should signed since six size
    size_t sizeof some sort sorted split src start state static std step stop str string strings strlen struct sub
    such suffix sum super switch synchronized tail temp template ten test tests text than that the their them then
    there these they this those three through throw throws thus tmp too top trait true try tuple two type typedef
    typename typeof types typing u32 u64 uint uint8 undef undefined under union unless unsigned until upon usage use
    used user uses using usize val value values var vec vector very void volatile was were what when where which while
    who whose will with without word words would write xor yield you your zero
    """.split()  # noqa: SIM905
)
