/* What Lua calls every so many instructions of a script: it suspends the script, so that its core can
 * look at the clock and serve others.
 *
 * This is C because suspending unwinds the stack, which frames of Rust do not allow in a process that
 * aborts when it panics. */

typedef struct lua_State lua_State;
typedef struct lua_Debug lua_Debug;

int lua_isyieldable(lua_State *state);
int lua_yield(lua_State *state, int results);
int luaL_error(lua_State *state, const char *format, ...);

/* Calls in a row that found Lua within a function written in C which called back, and cannot be
 * suspended: some seconds of instructions. */
#define STUCK_MAX 20000

static _Thread_local unsigned stuck;

void pinion_script_hook(lua_State *state, lua_Debug *activation)
{
    (void) activation;
    if (lua_isyieldable(state)) {
        stuck = 0;
        lua_yield(state, 0);
    } else if (++stuck >= STUCK_MAX) {
        luaL_error(state, "Script ran for too long where it cannot be suspended");
    }
}
